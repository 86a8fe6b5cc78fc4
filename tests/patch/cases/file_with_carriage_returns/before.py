"""Written on Windows."""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_hidden=12):
        super().__init__()
        self.fc1 = nn.Linear(6, n_hidden)
        self.hidden = nn.ModuleList([
            nn.Linear(n_hidden, n_hidden),
            nn.Linear(n_hidden, n_hidden),
            nn.Linear(n_hidden, n_hidden),
        ])
        self.out = nn.Linear(n_hidden, 2)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.out(x)
