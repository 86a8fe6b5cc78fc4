import torch
import torch.nn as nn


class Autoencoder(nn.Module):
    def __init__(self, dims=(32, 16, 8, 4)):
        super().__init__()
        self.encoder = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])
        dims = dims[::-1]
        self.decoder = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])

    def encode(self, x):
        for layer in self.encoder:
            x = torch.relu(layer(x))
        return x

    def decode(self, z):
        for layer in self.decoder[:-1]:
            z = torch.relu(layer(z))
        return torch.sigmoid(self.decoder[-1](z))

    def forward(self, x):
        return self.decode(self.encode(x))
