import torch
import torch.nn as nn


def conv_relu(c_in, c_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=True),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.features = nn.Sequential(
            conv_relu(1, width),
            conv_relu(width, 2 * width, stride=2),
            conv_relu(2 * width, 4 * width, stride=2),
            conv_relu(4 * width, 4 * width),
        )
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x):
        return self.fc(self.features(x).mean(dim=(-2, -1)))


example_inputs = torch.randn(4, 1, 8, 8)
