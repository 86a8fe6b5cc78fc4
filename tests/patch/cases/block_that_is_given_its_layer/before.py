import torch
import torch.nn as nn


class Activated(nn.Module):
    """A layer and its activation."""

    def __init__(self, layer, activation):
        super().__init__()
        self.layer = layer
        self.activation = activation

    def forward(self, x):
        return self.activation(self.layer(x))


model = nn.Sequential(
    Activated(nn.Linear(8, 12), torch.tanh),
    Activated(nn.Linear(12, 24), torch.tanh),
    Activated(nn.Linear(24, 24), torch.relu),
    Activated(nn.Linear(24, 12), torch.relu),
    nn.Linear(12, 1),
)
example_inputs = torch.randn(8, 8)
