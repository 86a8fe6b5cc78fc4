import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, n_in=6, n_hidden=18, n_out=2, n_layers=4):
        super().__init__()
        layers = []
        layers.append(nn.Linear(n_in, n_hidden))
        for i in range(n_layers - 1):
            layers.append(nn.Linear(n_hidden, n_hidden))
        layers.append(nn.Linear(n_hidden, n_out))
        self.layers = nn.ModuleList(layers)
        self.act = nn.ELU()

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        x = self.layers[-1](x)
        return x
