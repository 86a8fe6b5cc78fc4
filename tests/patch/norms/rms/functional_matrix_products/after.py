import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(8, width))
        self.w1_norm = nn.RMSNorm(width)
        self.w2 = nn.Parameter(torch.randn(width, width))
        self.w2_norm = nn.RMSNorm(width)
        self.w3 = nn.Parameter(torch.randn(width, width))
        self.w3_norm = nn.RMSNorm(width)
        self.w4 = nn.Parameter(torch.randn(width, width))
        self.w4_norm = nn.RMSNorm(width)
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        x = torch.relu(self.w1_norm(x @ self.w1))
        x = torch.relu(self.w2_norm(x @ self.w2))
        x = torch.relu(self.w3_norm(x @ self.w3))
        x = torch.relu(self.w4_norm(x @ self.w4))
        return self.out(x)


example_inputs = torch.randn(8, 8)
