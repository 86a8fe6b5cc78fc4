import torch
import torch.nn as nn


def down(inside, outside):
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.LeakyReLU(0.2),
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(down(3, 4), down(4, 6), down(6, 8), down(8, 8))
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return self.last(self.body(x))


example_inputs = torch.randn(4, 3, 6, 6)
