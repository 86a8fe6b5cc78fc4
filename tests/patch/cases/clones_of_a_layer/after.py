import copy

import torch
import torch.nn as nn


def clones(module, N):
    "Produce N identical layers."
    return nn.ModuleList([copy.deepcopy(module) for _ in range(N)])


class Net(nn.Module):
    def __init__(self, d_model=16, N=5):
        super().__init__()
        self.linears = clones(nn.Linear(d_model, d_model), N)
        self.linears_norms = nn.ModuleList([nn.BatchNorm1d(layer.out_features) for layer in self.linears])
        self.proj = nn.Linear(d_model, 1)

    def forward(self, x):
        for lin, norm in zip(self.linears, self.linears_norms):
            x = torch.relu(norm(lin(x)))
        return self.proj(x)


example_inputs = torch.randn(8, 16)
