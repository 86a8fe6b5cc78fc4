import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, norm=None):
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.fc_norm = nn.BatchNorm1d(width)
        self.norm = norm if norm is not None else nn.Identity()

    def forward(self, x):
        return self.norm(torch.tanh(self.fc_norm(self.fc(x))))


model = nn.Sequential(*[Block(16) for _ in range(5)], nn.Linear(16, 1))
