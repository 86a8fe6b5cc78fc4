import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.embed = nn.Linear(4, dim)
        self.mix = nn.Linear(dim, dim)
        self.pool = nn.Linear(dim, dim)
        self.top = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 2)

    def forward(self, x):
        x = torch.tanh(self.mix(torch.tanh(self.embed(x))))
        x = torch.tanh(self.pool(x.mean(1)))
        return self.head(torch.tanh(self.top(x)))


example_inputs = torch.randn(16, 5, 4)
