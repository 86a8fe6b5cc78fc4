from functools import partial

import torch
from torch import nn

conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)

model = nn.Sequential(
    conv3x3(3, 6), nn.ReLU(),
    conv3x3(6, 6), nn.ReLU(),
    conv3x3(6, 12), nn.ReLU(),
    conv3x3(12, 12), nn.ReLU(),
    nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    nn.Linear(12, 2),
)
example_inputs = torch.randn(2, 3, 8, 8)
