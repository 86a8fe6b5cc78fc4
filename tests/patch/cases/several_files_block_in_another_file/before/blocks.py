"""Building blocks that several models share."""

from torch import nn
from torch.nn import functional as F


class DenseBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return F.relu(self.fc(x))
