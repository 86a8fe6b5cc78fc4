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
        self.head = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.convs:
            x = torch.relu(conv(x))
        return self.head(x)


example_inputs = torch.randn(2, 3, 8, 8)
