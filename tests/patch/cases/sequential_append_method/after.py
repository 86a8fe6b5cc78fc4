import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, depth: int = 4, width: int = 16):
        super().__init__()
        self.net = nn.Sequential()
        for _ in range(depth):
            self.net.append(nn.Linear(width, width))
            self.net.append(nn.BatchNorm1d(width))
            self.net.append(nn.Softplus())
        self.net.append(nn.Linear(width, 1))

    def forward(self, x):
        return self.net(x)
