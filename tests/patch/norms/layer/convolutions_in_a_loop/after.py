import torch
from torch import nn


def build_model(widths=(16, 24, 24, 32)):
    layers, channels = [], 3
    for width in widths:
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        layers.append(nn.GroupNorm(1, width))
        layers.append(nn.ReLU(inplace=True))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


example_inputs = torch.randn(8, 3, 8, 8)
