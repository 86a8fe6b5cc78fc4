import torch.nn as nn


class Generator(nn.Module):
    def __init__(self, latent_dim=16, img_dim=64):
        super().__init__()

        def block(in_feat, out_feat):
            layers = [nn.Linear(in_feat, out_feat)]
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(latent_dim, 24),
            *block(24, 32),
            *block(32, 48),
            *block(48, 64),
            nn.Linear(64, img_dim),
            nn.Tanh()
        )

    def forward(self, z):
        return self.model(z)
