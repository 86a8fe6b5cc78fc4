import torch
from torch import nn


class TransformerNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        self.conv1_norm = nn.InstanceNorm2d(8, affine=True)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1)
        self.conv2_norm = nn.InstanceNorm2d(16, affine=True)
        self.conv3 = nn.Conv2d(16, 16, kernel_size=3, padding=1)
        self.conv3_norm = nn.InstanceNorm2d(16, affine=True)
        # Upsampling
        self.deconv1 = nn.ConvTranspose2d(16, 8, kernel_size=2, stride=2)
        self.deconv1_norm = nn.InstanceNorm2d(8, affine=True)
        self.last = nn.Conv2d(8, 3, kernel_size=3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, X):
        y = self.relu(self.conv1_norm(self.conv1(X)))
        y = self.relu(self.conv2_norm(self.conv2(y)))
        y = self.relu(self.conv3_norm(self.conv3(y)))
        y = self.relu(self.deconv1_norm(self.deconv1(y)))
        return self.last(y)


example_inputs = torch.randn(2, 3, 12, 12)
