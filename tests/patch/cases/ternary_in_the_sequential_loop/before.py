import torch
import torch.nn as nn


class MLP(nn.Module):
    def __init__(self, in_dim=12, hidden=16, out_dim=4, n_layers=6, dropout=0.1):
        super().__init__()
        layers = []
        for i in range(n_layers):
            is_last = i == n_layers - 1
            layers.append(
                nn.Linear(
                    in_dim if i == 0 else hidden,
                    out_dim if is_last else hidden,
                )
            )
            if not is_last:
                layers.append(nn.ReLU())
                if dropout:
                    layers.append(nn.Dropout(dropout))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)
