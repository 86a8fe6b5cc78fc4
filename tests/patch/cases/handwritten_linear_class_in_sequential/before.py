import torch
from torch import nn
import torch.nn.functional as F


class MyLinear(nn.Module):
    def __init__(self, in_units, units):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, in_units) * 0.1)
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, X):
        return F.linear(X, self.weight, self.bias)


model = nn.Sequential(
    MyLinear(8, 16),
    nn.ReLU(),
    MyLinear(16, 16),
    nn.ReLU(),
    MyLinear(16, 16),
    nn.ReLU(),
    MyLinear(16, 16),
    nn.ReLU(),
    MyLinear(16, 2),
)
example_inputs = torch.randn(8, 8)
