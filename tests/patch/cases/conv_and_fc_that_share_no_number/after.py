import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1_1 = nn.Conv2d(1, 8, 3, padding=1)
        self.bn1_1 = nn.BatchNorm2d(8)
        self.conv1_2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn1_2 = nn.BatchNorm2d(8)
        self.conv2_1 = nn.Conv2d(8, 16, 3, padding=1)
        self.bn2_1 = nn.BatchNorm2d(16)
        self.conv2_2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2_2 = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(2)
        self.fc3 = nn.Linear(16 * 2 * 2, 50)
        self.bn3 = nn.BatchNorm1d(50)
        self.fc4 = nn.Linear(50, 10)

    def forward(self, x):
        x = torch.relu(self.bn1_1(self.conv1_1(x)))
        x = torch.relu(self.bn1_2(self.conv1_2(x)))
        x = self.pool(x)
        x = torch.relu(self.bn2_1(self.conv2_1(x)))
        x = torch.relu(self.bn2_2(self.conv2_2(x)))
        x = self.pool(x)
        x = torch.relu(self.bn3(self.fc3(x.reshape(x.shape[0], -1))))
        return self.fc4(x)


example_inputs = torch.rand(4, 1, 8, 8)
