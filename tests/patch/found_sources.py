"""Sources whose patch was once wrong, found by random ones and cut down, and what is to come of each."""

from __future__ import annotations

FOUND: dict[str, tuple[str, dict[str, str]]] = {
    "an import that has each name on a line of its own, the last without a comma": (
        "patched",
        {
            "model.py": """\
import torch.nn as nn
import torch
from torch.nn import (
  Sequential,
  ReLU,
  Linear,
  Conv2d
)


class Net(nn.Module):
  def __init__(self, hidden=8):
    super().__init__()
    self.net = Sequential(Conv2d(1, hidden, 3, 1, 1), ReLU(), Conv2d(hidden, hidden, 3, 1, 1), ReLU())
    self.inp = Linear(hidden * 64, hidden)
    self.mid = Linear(hidden, hidden)
    self.head = Linear(hidden, 2)

  def forward(self, x):
    x = self.net(x).flatten(1)
    x = torch.relu(self.inp(x))
    x = torch.relu(self.mid(x))
    return self.head(x)


example_inputs = torch.randn(4, 1, 8, 8)
"""
        },
    ),
    "a Sequential that is called on two inputs": (
        "refused",
        {
            "model.py": """\
import torch
from torch import nn


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, 8), nn.ReLU(),
            nn.Linear(8, 8), nn.ReLU(),
            nn.Linear(8, 8), nn.ReLU(),
            nn.Linear(8, 8), nn.ReLU(),
        )
        self.head = nn.Linear(8, 2)

    def forward(self, a, b):
        return self.head(self.encode(a) - self.encode(b))

    def encode(self, x):
        return self.body(x)


example_inputs = torch.randn(4, 4), torch.randn(4, 4)
"""
        },
    ),
    "two loops whose layers would give their norms the same names": (
        "patched",
        {
            "model.py": """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for i in range(2):
            setattr(self, f"c{i}", nn.Conv2d(1, 1, 1))
        for i in range(2):
            setattr(self, f"layer{i}", nn.Linear(64, 64))
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        for i in range(2):
            x = torch.relu(getattr(self, f"c{i}")(x))
        x = x.flatten(1)
        for i in range(2):
            x = torch.relu(getattr(self, f"layer{i}")(x))
        return self.head(x)


example_inputs = torch.randn(4, 1, 8, 8)
"""
        },
    ),
}
