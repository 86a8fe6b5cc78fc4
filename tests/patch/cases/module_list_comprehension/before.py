import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32, depth=5):
        super().__init__()
        self.inp = nn.Linear(16, width)
        self.body = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.sigmoid(self.inp(x))
        for layer in self.body:
            x = torch.sigmoid(layer(x))
        return self.out(x)
