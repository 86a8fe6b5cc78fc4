import torch
from torch import nn


class QNetwork(nn.Module):
    def __init__(self, sizes=(4, 32, 32, 32, 32), n_actions=2):
        super().__init__()
        layers = []
        for n_in, n_out in zip(sizes, sizes[1:]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        layers += [nn.Linear(sizes[-1], n_actions)]
        self.model = nn.Sequential(*layers)

    def forward(self, state):
        return self.model(state)
