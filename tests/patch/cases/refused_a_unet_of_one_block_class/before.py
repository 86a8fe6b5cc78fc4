import torch
import torch.nn as nn


class DoubleConv(nn.Module):
    """(convolution => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))))


class UNet(nn.Module):
    def __init__(self, n_channels=1, n_classes=2, c=2):
        super().__init__()
        self.inc = DoubleConv(n_channels, c)
        self.down1 = DoubleConv(c, 2 * c)
        self.down2 = DoubleConv(2 * c, 4 * c)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up1 = DoubleConv(6 * c, 2 * c)
        self.up2 = DoubleConv(3 * c, c)
        self.outc = nn.Conv2d(c, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(self.pool(x1))
        x3 = self.down2(self.pool(x2))
        x = self.up1(torch.cat([x2, self.up(x3)], dim=1))
        x = self.up2(torch.cat([x1, self.up(x)], dim=1))
        return self.outc(x)


example_inputs = torch.randn(2, 1, 8, 8)
