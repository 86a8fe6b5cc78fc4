import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, n_in=12, hidden=24, n_out=3):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(hidden, n_in) * 0.1)
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.w2 = nn.Parameter(torch.randn(hidden, hidden) * 0.1)
        self.b2 = nn.Parameter(torch.zeros(hidden))
        self.w3 = nn.Parameter(torch.randn(hidden, hidden) * 0.1)
        self.b3 = nn.Parameter(torch.zeros(hidden))
        self.w4 = nn.Parameter(torch.randn(hidden, hidden) * 0.1)
        self.b4 = nn.Parameter(torch.zeros(hidden))
        self.w5 = nn.Parameter(torch.randn(n_out, hidden) * 0.1)

    def forward(self, x):
        x = F.relu(F.linear(x, self.w1, self.b1))
        x = F.relu(F.linear(x, self.w2, self.b2))
        x = F.relu(F.linear(x, self.w3, self.b3))
        x = F.relu(F.linear(x, self.w4, bias=self.b4))
        return F.linear(x, self.w5)


example_inputs = torch.randn(8, 12)
