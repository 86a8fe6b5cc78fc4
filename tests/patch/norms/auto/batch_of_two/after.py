import torch
from torch import nn

model = nn.Sequential(
    nn.Conv2d(3, 32, 3), nn.GroupNorm(2, 32), nn.ReLU(),
    nn.Conv2d(32, 32, 3), nn.GroupNorm(2, 32), nn.ReLU(),
    nn.Conv2d(32, 32, 3), nn.GroupNorm(2, 32), nn.ReLU(),
    nn.Flatten(),
    nn.Linear(128, 64), nn.GroupNorm(4, 64), nn.ReLU(),
    nn.Linear(64, 2),
)
example_inputs = torch.randn(2, 3, 8, 8)
