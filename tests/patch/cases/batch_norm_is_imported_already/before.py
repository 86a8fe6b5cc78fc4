import torch
from torch.nn import Linear, ReLU, Module, BatchNorm1d
from torch.nn import functional as F


class Net(Module):
    """Only the first layer is normalized so far."""

    def __init__(self, n=16):
        super().__init__()
        self.first = Linear(n, n)
        self.first_bn = BatchNorm1d(n)
        self.second = Linear(n, n)
        self.third = Linear(n, n)
        self.fourth = Linear(n, n)
        self.fifth = Linear(n, n)
        self.relu = ReLU()
        self.last = Linear(n, 1)

    def forward(self, x):
        x = self.relu(self.first_bn(self.first(x)))
        x = self.relu(self.second(x))
        x = self.relu(self.third(x))
        x = self.relu(self.fourth(x))
        x = self.relu(self.fifth(x))
        return F.softplus(self.last(x))


example_inputs = torch.randn(8, 16)
