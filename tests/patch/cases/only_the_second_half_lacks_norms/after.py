import torch
import torch.nn as nn

model = nn.Sequential(
    nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
    nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
    nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
    nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(),
    nn.Linear(24, 24), nn.BatchNorm1d(24), nn.ReLU(),
    nn.Linear(24, 16), nn.BatchNorm1d(16), nn.ReLU(),
    nn.Linear(16, 2),
)
example_inputs = torch.randn(8, 16)
