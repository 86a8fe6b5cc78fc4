import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()

        self.fc1 = nn.Linear(64, 40)
        self.bn1 = nn.BatchNorm1d(40)
        self.fc2 = nn.Linear(40, 24)
        self.bn2 = nn.BatchNorm1d(24)
        self.fc31 = nn.Linear(24, 4)
        self.fc32 = nn.Linear(24, 4)
        self.fc4 = nn.Linear(4, 24)
        self.bn4 = nn.BatchNorm1d(24)
        self.fc5 = nn.Linear(24, 40)
        self.bn5 = nn.BatchNorm1d(40)
        self.fc6 = nn.Linear(40, 64)

    def encode(self, x):
        h1 = F.relu(self.bn1(self.fc1(x)))
        h2 = F.relu(self.bn2(self.fc2(h1)))
        return self.fc31(h2), self.fc32(h2)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5*logvar)
        eps = torch.randn_like(std)
        return mu + eps*std

    def decode(self, z):
        h4 = F.relu(self.bn4(self.fc4(z)))
        h5 = F.relu(self.bn5(self.fc5(h4)))
        return torch.sigmoid(self.fc6(h5))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


# Reconstruction + KL divergence losses summed over all elements and batch
def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction='sum')
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


example_inputs = torch.rand(8, 1, 8, 8)
