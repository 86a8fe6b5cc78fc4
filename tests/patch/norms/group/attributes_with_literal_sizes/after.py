import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.conv1_norm = nn.GroupNorm(2, 32)
        self.conv2 = nn.Conv2d(32, 48, 3)
        self.conv2_norm = nn.GroupNorm(3, 48)
        self.fc1 = nn.Linear(48 * 4 * 4, 120)
        self.fc1_norm = nn.GroupNorm(6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc2_norm = nn.GroupNorm(4, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.relu(self.conv1_norm(self.conv1(x)))
        x = F.relu(self.conv2_norm(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1_norm(self.fc1(x)))
        x = F.relu(self.fc2_norm(self.fc2(x)))
        return self.fc3(x)


example_inputs = torch.randn(4, 3, 8, 8)
