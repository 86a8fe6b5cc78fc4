import torch
from torch import nn


class TransformerNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, 16, kernel_size=3, padding=1)
        # Upsampling
        self.deconv1 = nn.ConvTranspose2d(16, 8, kernel_size=2, stride=2)
        self.last = nn.Conv2d(8, 3, kernel_size=3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, X):
        y = self.relu(self.conv1(X))
        y = self.relu(self.conv2(y))
        y = self.relu(self.conv3(y))
        y = self.relu(self.deconv1(y))
        return self.last(y)


example_inputs = torch.randn(2, 3, 12, 12)
