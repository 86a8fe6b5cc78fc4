import torch
from torch import nn

from layers import linear


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = linear(12, 24)
        self.bn1 = nn.BatchNorm1d(24)
        self.fc2 = linear(24, 24)
        self.bn2 = nn.BatchNorm1d(24)
        self.fc3 = linear(24, 24)
        self.bn3 = nn.BatchNorm1d(24)
        self.fc4 = linear(24, 12)
        self.bn4 = nn.BatchNorm1d(12)
        self.fc5 = linear(12, 1)

    def forward(self, x):
        x = torch.relu(self.bn1(self.fc1(x)))
        x = torch.relu(self.bn2(self.fc2(x)))
        x = torch.relu(self.bn3(self.fc3(x)))
        x = torch.relu(self.bn4(self.fc4(x)))
        return self.fc5(x)


example_inputs = torch.randn(8, 12)
