import torch
import torch.nn as nn

model = nn.Sequential(
    nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ),
    nn.Sequential(
        nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    ),
    nn.Flatten(),
    nn.Linear(8, 10),
)
example_inputs = torch.randn(4, 1, 8, 8)
