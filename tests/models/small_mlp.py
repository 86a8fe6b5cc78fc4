"""Five sigmoid blocks of eight units: the model of the golden transcripts. A change here changes every one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

torch.manual_seed(7)


class SmallMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(5)])
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.head(x)


model = SmallMLP()
example_inputs = torch.randn(16, 8)
