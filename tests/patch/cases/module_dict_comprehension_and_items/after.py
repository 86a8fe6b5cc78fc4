import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, names=("a", "b", "c", "d"), width=16):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.layers_norms = nn.ModuleDict({name: nn.BatchNorm1d(width) for name in names})
        self.out = nn.Linear(width, 1)
        self.trace = {}

    def forward(self, x):
        for name, layer in self.layers.items():
            x = torch.tanh(self.layers_norms[name](layer(x)))
            self.trace[name] = tuple(x.shape)
        return self.out(x)


example_inputs = torch.randn(8, 16)
