import torch
from torch.nn import Linear, Module, ReLU, Sequential


class Net(Module):
    def __init__(self, width=20):
        super().__init__()
        self.net = Sequential(
            Linear(10, width),
            ReLU(),
            Linear(width, width),
            ReLU(),
            Linear(width, width),
            ReLU(),
            Linear(width, width),
            ReLU(),
            Linear(width, 1),
        )

    def forward(self, x):
        return self.net(x)


example_inputs = torch.randn(8, 10)
