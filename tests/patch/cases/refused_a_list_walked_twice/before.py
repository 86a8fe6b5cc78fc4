import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        for _ in range(2):
            for layer in self.layers:
                x = torch.tanh(layer(x))
        return self.head(x)
