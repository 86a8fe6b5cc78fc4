import torch
import torch.nn as nn
import torch.nn.functional as F


class MLP(nn.Module):
    """ Very simple multi-layer perceptron (also called FFN)"""

    def __init__(self, input_dim=8, hidden_dim=16, output_dim=4, num_layers=5):
        super().__init__()
        self.num_layers = num_layers
        h = [hidden_dim] * (num_layers - 1)
        self.layers = nn.ModuleList(nn.Linear(n, k) for n, k in zip([input_dim] + h, h + [output_dim]))
        self.layers_norms = nn.ModuleList([nn.BatchNorm1d(layer.out_features) for layer in self.layers[:-1]])

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = F.relu(self.layers_norms[i](layer(x))) if i < self.num_layers - 1 else layer(x)
        return x
