import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, n_layers=5, width=14):
        super().__init__()
        self.n_layers = n_layers
        for i in range(n_layers):
            setattr(self, f"fc{i}", nn.Linear(width, width))
            setattr(self, f"bn{i}", nn.BatchNorm1d(width))
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        for i in range(self.n_layers):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"fc{i}")(x)))
        return self.out(x)
