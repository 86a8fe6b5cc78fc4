import torch
import torch.nn as nn
import torch.nn.functional as F


class DQN(nn.Module):
    def __init__(self, state_dim=4, action_dim=2, hidden_dims=(32, 32, 24, 16)):
        super().__init__()
        self.hidden_layers = nn.ModuleList()
        self.hidden_layers_norms = nn.ModuleList()
        last_dim = state_dim
        for dim in hidden_dims:
            self.hidden_layers.append(nn.Linear(last_dim, dim))
            self.hidden_layers_norms.append(nn.BatchNorm1d(dim))
            last_dim = dim
        self.output_layer = nn.Linear(last_dim, action_dim)

    def forward(self, state):
        x = state
        for layer, norm in zip(self.hidden_layers, self.hidden_layers_norms):
            x = F.relu(norm(layer(x)))
        return self.output_layer(x)
