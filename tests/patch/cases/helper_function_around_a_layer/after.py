"""Agent as in single-file RL implementations."""
import numpy as np
import torch
import torch.nn as nn


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim=8, hidden=32, n_actions=4):
        super().__init__()
        self.network = nn.Sequential(
            layer_init(nn.Linear(obs_dim, hidden)),
            nn.BatchNorm1d(hidden),
            nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)),
            nn.BatchNorm1d(hidden),
            nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)),
            nn.BatchNorm1d(hidden),
            nn.Tanh(),
        )
        self.last = layer_init(nn.Linear(hidden, hidden))
        self.last_norm = nn.BatchNorm1d(hidden)
        self.actor = layer_init(nn.Linear(hidden, n_actions), std=0.01)
        self.critic = layer_init(nn.Linear(hidden, 1), std=1)

    def forward(self, x):
        hidden = self.network(x)
        hidden = torch.tanh(self.last_norm(self.last(hidden)))
        return self.actor(hidden), self.critic(hidden)


example_inputs = torch.randn(8, 8)
