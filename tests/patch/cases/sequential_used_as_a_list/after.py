import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, n=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n, n), nn.Linear(n, n), nn.Linear(n, n), nn.Linear(n, n))
        self.layers_norms = nn.Sequential(nn.BatchNorm1d(n), nn.BatchNorm1d(n), nn.BatchNorm1d(n), nn.BatchNorm1d(n))
        self.head = nn.Linear(n, 1)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.layers_norms):
            x = torch.relu(norm(layer(x)))
        return self.head(x)
