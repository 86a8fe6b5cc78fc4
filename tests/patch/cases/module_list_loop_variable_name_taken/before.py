import torch
import torch.nn as nn


class Net(nn.Module):
    """Scales its input by `norm`, a plain number."""

    def __init__(self, width=10, norm=2.0):
        super().__init__()
        self.norm = norm
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(6)])
        self.readout = nn.Linear(width, 1)

    def forward(self, x):
        norm = self.norm
        for layer in self.layers:
            x = torch.relu(layer(x)) / norm
        return self.readout(x)
