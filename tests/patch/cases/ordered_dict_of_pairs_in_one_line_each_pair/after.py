import collections
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(collections.OrderedDict([
            ("conv1", nn.Conv2d(1, 4, 3)), ("bn1", nn.BatchNorm2d(4)), ("act1", nn.Tanh()),
            ("conv2", nn.Conv2d(4, 4, 3)), ("bn2", nn.BatchNorm2d(4)), ("act2", nn.Tanh()),
            ("conv3", nn.Conv2d(4, 8, 3)), ("bn3", nn.BatchNorm2d(8)), ("act3", nn.Tanh()),
            ("conv4", nn.Conv2d(8, 8, 3)), ("bn4", nn.BatchNorm2d(8)), ("act4", nn.Tanh())]))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x).amax((-2, -1)))


def example_inputs():
    import torch

    return torch.randn(4, 1, 12, 12)
