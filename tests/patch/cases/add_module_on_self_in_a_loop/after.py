import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, depth=4, width=18):
        super().__init__()
        self.depth = depth
        for i in range(depth):
            self.add_module("linear_" + str(i), nn.Linear(width, width))
            self.add_module("bn_" + str(i), nn.BatchNorm1d(width))
        self.add_module("head", nn.Linear(width, 1))

    def forward(self, x):
        for i in range(self.depth):
            layer = getattr(self, "linear_" + str(i))
            x = torch.sigmoid(getattr(self, "bn_" + str(i))(layer(x)))
        return self.head(x)
