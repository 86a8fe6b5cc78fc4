import torch
import torch.nn as nn


class Dense(nn.Module):
    def __init__(self, n_in, n_out, activation):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.activation = activation

    def forward(self, x):
        return self.activation(self.linear(x))


model = nn.Sequential(
    Dense(8, 16, torch.relu),
    Dense(16, 16, torch.relu),
    Dense(16, 16, torch.relu),
    Dense(16, 16, torch.relu),
    Dense(16, 1, torch.sigmoid),
)
example_inputs = torch.randn(8, 8)
