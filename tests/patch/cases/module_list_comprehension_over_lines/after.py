import torch
import torch.nn as nn


class ConvStack(nn.Module):
    def __init__(self, channels=6, depth=4):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(channels, channels, kernel_size=3, padding=1)
                for _ in range(depth)
            ]
        )
        self.convs_norms = nn.ModuleList(
            [
                nn.BatchNorm2d(channels)
                for _ in range(depth)
            ]
        )
        self.head = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, x):
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.convs_norms):
            x = torch.relu(norm(conv(x)))
        return self.head(x)


example_inputs = torch.randn(2, 3, 8, 8)
