import torch
import torch.nn as nn


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.block1 = ConvBlock(3, 8)
        self.block2 = ConvBlock(8, 8)
        self.block3 = ConvBlock(8, 16, kernel_size=5)
        self.block4 = ConvBlock(16, 16)
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.block2(self.block1(x))
        x = self.block4(self.block3(x))
        return self.classifier(x.mean([2, 3]))


example_inputs = torch.randn(2, 3, 9, 9)
