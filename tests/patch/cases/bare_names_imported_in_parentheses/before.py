"""Imports as black and isort leave them."""

import torch
from torch.nn import (
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


class Net(Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = Sequential(
            Conv2d(1, 4, kernel_size=3, padding=1),
            ReLU(),
            MaxPool2d(2),
            Conv2d(4, 8, kernel_size=3, padding=1),
            ReLU(),
            MaxPool2d(2),
            Flatten(),
        )
        self.classifier = Sequential(
            Linear(8 * 2 * 2, 16),
            ReLU(),
            Linear(16, 16),
            ReLU(),
            Linear(16, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


example_inputs = torch.randn(4, 1, 8, 8)
