from __future__ import annotations

import torch
from torch import Tensor, nn


class Net(nn.Module):
    fc1: nn.Linear
    width: int

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.fc1 = nn.Linear(4, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2: nn.Linear = nn.Linear(width, width)
        self.bn2 = nn.BatchNorm1d(width)
        self.fc3: nn.Linear = nn.Linear(self.width, self.width)
        self.bn3 = nn.BatchNorm1d(self.width)
        self.fc4: nn.Module = nn.Linear(width, out_features=(width + 1) // 2)
        self.bn4 = nn.BatchNorm1d((width + 1) // 2)
        self.head: nn.Linear = nn.Linear((width + 1) // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = torch.relu(self.bn1(self.fc1(x)))
        h = torch.relu(self.bn2(self.fc2(h)))
        h = torch.relu(self.bn3(self.fc3(h)))
        h = torch.relu(input=self.bn4(self.fc4(h)))
        return self.head(h)
