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
        self.layers_norms = nn.ModuleList([nn.BatchNorm1d(layer.out_features) for layer in self.layers[:-1]])
        self.act = nn.ELU()

    def forward(self, x):
        for layer, norm in zip(self.layers[:-1], self.layers_norms):
            x = self.act(norm(layer(x)))
        x = self.layers[-1](x)
        return x
