import torch.nn as nn


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(True),
            nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(True), nn.Linear(16, 3))
        self.decoder = nn.Sequential(
            nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(True),
            nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(True), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x):
        x = self.encoder(x)
        x = self.decoder(x)
        return x
