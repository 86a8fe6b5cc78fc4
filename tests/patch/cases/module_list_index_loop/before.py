import torch as th
import torch.nn as nn


class GraphFreeNet(nn.Module):
    def __init__(self, n_layers=5, n_units=12):
        super(GraphFreeNet, self).__init__()
        self.n_layers = n_layers
        self.W = nn.ModuleList([nn.Linear(n_units, n_units) for _ in range(n_layers)])
        self.fc_out = nn.Linear(n_units, 2)

    def forward(self, h):
        for i in range(self.n_layers):
            h = th.relu(self.W[i](h))
        return self.fc_out(h)
