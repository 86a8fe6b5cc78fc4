import torch
from torch import nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, 4 * dim)
        self.fc3 = nn.Linear(4 * dim, dim)
        self.fc4 = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens):
        h = F.silu(self.fc2(F.silu(self.fc1(tokens))))
        h = F.silu(self.fc4(F.silu(self.fc3(h))))
        return self.out(h)


example_inputs = torch.randn(2, 7, 12)
