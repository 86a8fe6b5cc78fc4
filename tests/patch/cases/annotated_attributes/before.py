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
        self.fc2: nn.Linear = nn.Linear(width, width)
        self.fc3: nn.Linear = nn.Linear(self.width, self.width)
        self.fc4: nn.Module = nn.Linear(width, out_features=(width + 1) // 2)
        self.head: nn.Linear = nn.Linear((width + 1) // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = torch.relu(self.fc1(x))
        h = torch.relu(self.fc2(h))
        h = torch.relu(self.fc3(h))
        h = torch.relu(input=self.fc4(h))
        return self.head(h)
