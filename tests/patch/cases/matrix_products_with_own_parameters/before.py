import torch
from torch import nn


class FromScratch(nn.Module):
    """No nn.Linear in here."""

    def __init__(self):
        super().__init__()
        self.W1 = nn.Parameter(0.1 * torch.randn(8, 16))
        self.b1 = nn.Parameter(torch.zeros(16))
        self.W2 = nn.Parameter(0.1 * torch.randn(16, 16))
        self.b2 = nn.Parameter(torch.zeros(16))
        self.W3 = nn.Parameter(0.1 * torch.randn(16, 16))
        self.W4 = nn.Parameter(0.1 * torch.randn(16, 16))
        self.W5 = nn.Parameter(0.1 * torch.randn(16, 1))

    def forward(self, x):
        h = torch.tanh(x @ self.W1 + self.b1)
        h = torch.tanh(h @ self.W2 + self.b2)
        h = torch.tanh(torch.matmul(h, self.W3))
        h = torch.tanh(h.mm(self.W4))
        return h @ self.W5


example_inputs = torch.randn(8, 8)
