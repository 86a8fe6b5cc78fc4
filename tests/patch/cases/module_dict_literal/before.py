import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({
            "first": nn.Linear(8, 16),
            "second": nn.Linear(16, 16),
            "third": nn.Linear(16, 16),
            "fourth": nn.Linear(16, 16),
            "head": nn.Linear(16, 3),
        })

    def forward(self, x):
        x = torch.relu(self.layers["first"](x))
        x = torch.relu(self.layers["second"](x))
        x = torch.relu(self.layers["third"](x))
        x = torch.relu(self.layers["fourth"](x))
        return self.layers["head"](x)


example_inputs = torch.randn(8, 8)
