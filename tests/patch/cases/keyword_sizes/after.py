import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, channels: int = 4, hidden_units: int = 16):
        super().__init__()
        self.extractor = nn.Sequential(
            nn.Conv2d(in_channels=3, out_channels=channels, kernel_size=3, stride=1, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(out_channels=2 * channels, in_channels=channels, kernel_size=3),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(output_size=1),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_features=2 * channels, out_features=hidden_units),
            nn.BatchNorm1d(hidden_units),
            nn.ReLU(),
            nn.Linear(hidden_units, out_features=hidden_units),
            nn.BatchNorm1d(hidden_units),
            nn.ReLU(),
            nn.Linear(in_features=hidden_units, out_features=3),
        )

    def forward(self, x):
        return self.classifier(self.extractor(x))


example_inputs = torch.randn(4, 3, 8, 8)
