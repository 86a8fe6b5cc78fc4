import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn2 = nn.BatchNorm2d(8)
        self.dense3 = nn.Linear(128, 20)
        self.bn3 = nn.BatchNorm1d(20)
        self.dense4 = nn.Linear(20, 20)
        self.bn4 = nn.BatchNorm1d(20)
        self.head = nn.Linear(20, 2)

    def forward(self, x):
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        x = torch.relu(self.bn3(self.dense3(x.flatten(1))))
        return self.head(torch.relu(self.bn4(self.dense4(x))))


example_inputs = torch.randn(8, 3, 8, 8)
