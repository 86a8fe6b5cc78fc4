from __future__ import annotations

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """`dims` are the widths from input to output."""

    def __init__(self, dims: list[int] | None = None) -> None:
        super().__init__()
        dims = dims or [12, 24, 24, 16, 8]
        self.layers = nn.ModuleList([nn.Linear(d_in, d_out) for d_in, d_out in zip(dims[:-1], dims[1:])])
        self.layers_norms = nn.ModuleList([nn.BatchNorm1d(d_out) for d_in, d_out in zip(dims[:-1], dims[1:])])
        self.head = nn.Linear(dims[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.layers_norms):
            x = torch.relu(norm(layer(x)))
        return self.head(x).squeeze(-1)
