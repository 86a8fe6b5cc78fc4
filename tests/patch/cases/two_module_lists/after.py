import torch
import torch.nn as nn


class Autoencoder(nn.Module):
    def __init__(self, dims=(32, 16, 8, 4)):
        super().__init__()
        self.encoder = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])
        self.encoder_norms = nn.ModuleList([nn.BatchNorm1d(b) for a, b in zip(dims, dims[1:])])
        dims = dims[::-1]
        self.decoder = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])
        self.decoder_norms = nn.ModuleList([nn.BatchNorm1d(layer.out_features) for layer in self.decoder[:-1]])

    def encode(self, x):
        for layer, norm in zip(self.encoder, self.encoder_norms):
            x = torch.relu(norm(layer(x)))
        return x

    def decode(self, z):
        for layer, norm in zip(self.decoder[:-1], self.decoder_norms):
            z = torch.relu(norm(layer(z)))
        return torch.sigmoid(self.decoder[-1](z))

    def forward(self, x):
        return self.decode(self.encode(x))
