import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, width=16, depth=5):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(width, width) / width**0.5) for _ in range(depth)])
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        for w in self.weights:
            x = torch.relu(x @ w)
        return self.head(x)


example_inputs = torch.randn(8, 16)
