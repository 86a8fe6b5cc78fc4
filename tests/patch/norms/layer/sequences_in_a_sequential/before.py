import torch
from torch import nn

dim = 24

model = nn.Sequential(
    nn.Linear(8, dim), nn.GELU(),
    nn.Linear(dim, 2 * dim), nn.GELU(),
    nn.Linear(2 * dim, dim), nn.GELU(),
    nn.Linear(dim, dim), nn.GELU(),
    nn.Linear(dim, 3),
)
example_inputs = torch.randn(4, 6, 8)
