import torch
import torch.nn as nn


class Net(nn.Module):
    """conv1 and fc1 would both get a bn1, so each of these two is called after its layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv1_norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3)
        self.conv2_norm = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 8, 3)
        self.conv3_norm = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8, 16)
        self.fc1_norm = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.relu(self.conv1_norm(self.conv1(x)))
        x = torch.relu(self.conv2_norm(self.conv2(x)))
        x = torch.relu(self.conv3_norm(self.conv3(x))).amax((2, 3))
        x = torch.relu(self.fc1_norm(self.fc1(x)))
        return self.fc2(x)


example_inputs = torch.randn(4, 1, 10, 10)
