import torch
import torch.nn as nn


class MLP(nn.Module):
    def __init__(self, sizes=[9, 18, 18, 18, 18, 3]):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(len(sizes) - 1):
            self.layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        self.layers_norms = nn.ModuleList([nn.BatchNorm1d(layer.out_features) for layer in self.layers[:-1]])

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.layers) - 1:
                x = torch.relu(self.layers_norms[i](x))
        return x
