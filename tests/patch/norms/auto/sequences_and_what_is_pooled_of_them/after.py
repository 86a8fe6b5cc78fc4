import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.embed = nn.Linear(4, dim)
        self.embed_norm = nn.LayerNorm(dim)
        self.mix = nn.Linear(dim, dim)
        self.mix_norm = nn.LayerNorm(dim)
        self.pool = nn.Linear(dim, dim)
        self.pool_norm = nn.BatchNorm1d(dim)
        self.top = nn.Linear(dim, dim)
        self.top_norm = nn.BatchNorm1d(dim)
        self.head = nn.Linear(dim, 2)

    def forward(self, x):
        x = torch.tanh(self.mix_norm(self.mix(torch.tanh(self.embed_norm(self.embed(x))))))
        x = torch.tanh(self.pool_norm(self.pool(x.mean(1))))
        return self.head(torch.tanh(self.top_norm(self.top(x))))


example_inputs = torch.randn(16, 5, 4)
