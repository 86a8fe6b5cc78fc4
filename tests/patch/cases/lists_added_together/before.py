import torch
import torch.nn as nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Net(nn.Module):
    def __init__(self, n_in=6, width=12, depth=3, activation="tanh"):
        super().__init__()
        act = ACTIVATIONS[activation]
        hidden = sum(
            [[nn.Linear(width, width), act()] for _ in range(depth)], []
        )
        self.net = nn.Sequential(
            *([nn.Linear(n_in, width), act()] + hidden + [nn.Linear(width, 1)])
        )

    def forward(self, x):
        return self.net(x)
