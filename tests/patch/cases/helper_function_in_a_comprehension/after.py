import torch
from torch import nn


def dense(n_in, n_out):
    layer = nn.Linear(n_in, n_out)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return layer


class Net(nn.Module):
    def __init__(self, widths=(8, 16, 24, 16, 8)):
        super().__init__()
        self.layers = nn.ModuleList([dense(a, b) for a, b in zip(widths, widths[1:])])
        self.layers_norms = nn.ModuleList([nn.BatchNorm1d(layer.out_features) for layer in self.layers])
        self.head = dense(widths[-1], 1)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.layers_norms):
            x = torch.relu(norm(layer(x)))
        return self.head(x)


example_inputs = torch.randn(8, 8)
