import torch
from torch import nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.norm1 = nn.RMSNorm(4 * dim)
        self.fc2 = nn.Linear(4 * dim, 4 * dim)
        self.norm2 = nn.RMSNorm(4 * dim)
        self.fc3 = nn.Linear(4 * dim, dim)
        self.norm3 = nn.RMSNorm(dim)
        self.fc4 = nn.Linear(dim, dim)
        self.norm4 = nn.RMSNorm(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens):
        h = F.silu(self.norm2(self.fc2(F.silu(self.norm1(self.fc1(tokens))))))
        h = F.silu(self.norm4(self.fc4(F.silu(self.norm3(self.fc3(h))))))
        return self.out(h)


example_inputs = torch.randn(2, 7, 12)
