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
        self.proj = nn.Linear(d_model, 1)

    def forward(self, x):
        for lin in self.linears:
            x = torch.relu(lin(x))
        return self.proj(x)


example_inputs = torch.randn(8, 16)
