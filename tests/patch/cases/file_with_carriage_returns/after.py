"""Written on Windows."""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_hidden=12):
        super().__init__()
        self.fc1 = nn.Linear(6, n_hidden)
        self.bn1 = nn.BatchNorm1d(n_hidden)
        self.hidden = nn.ModuleList([
            nn.Linear(n_hidden, n_hidden),
            nn.Linear(n_hidden, n_hidden),
            nn.Linear(n_hidden, n_hidden),
        ])
        self.hidden_norms = nn.ModuleList([
            nn.BatchNorm1d(n_hidden),
            nn.BatchNorm1d(n_hidden),
            nn.BatchNorm1d(n_hidden),
        ])
        self.out = nn.Linear(n_hidden, 2)

    def forward(self, x):
        x = torch.relu(self.bn1(self.fc1(x)))
        for layer, norm in zip(self.hidden, self.hidden_norms):
            x = torch.relu(norm(layer(x)))
        return self.out(x)
