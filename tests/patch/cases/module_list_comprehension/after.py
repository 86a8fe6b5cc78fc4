import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32, depth=5):
        super().__init__()
        self.inp = nn.Linear(16, width)
        self.inp_norm = nn.BatchNorm1d(width)
        self.body = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.body_norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(depth)])
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.sigmoid(self.inp_norm(self.inp(x)))
        for layer, norm in zip(self.body, self.body_norms):
            x = torch.sigmoid(norm(layer(x)))
        return self.out(x)
