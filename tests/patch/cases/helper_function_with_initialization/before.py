import torch
import torch.nn as nn
import torch.nn.functional as F


def make_linear(n_in, n_out, gain=1.0):
    """A linear layer with orthogonal weights."""
    layer = nn.Linear(n_in, n_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = make_linear(8, 32)
        self.fc2 = make_linear(32, 32)
        self.fc3 = make_linear(32, 32)
        self.fc4 = make_linear(32, 16)
        self.mean = make_linear(16, 2, gain=0.01)

    def forward(self, obs):
        h = F.relu(self.fc1(obs))
        h = F.relu(self.fc2(h))
        h = F.relu(self.fc3(h))
        h = F.relu(self.fc4(h))
        return torch.tanh(self.mean(h))
