import torch
import torch.nn as nn


class Decoder(nn.Module):
    """`ups` is ordered as the encoder's layers are, so it is walked from its end."""

    def __init__(self, dims=(32, 24, 16, 12, 8)):
        super().__init__()
        self.ups = nn.ModuleList(nn.Linear(b, a) for a, b in zip(dims, dims[1:]))
        self.ups_norms = nn.ModuleList(nn.BatchNorm1d(a) for a, b in zip(dims, dims[1:]))
        self.out = nn.Linear(dims[0], 3)

    def forward(self, z):
        for up, norm in zip(reversed(self.ups), reversed(self.ups_norms)):
            z = torch.relu(norm(up(z)))
        return self.out(z)


example_inputs = torch.randn(8, 8)
