import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.fc1 = nn.Linear(8, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, width)
        self.bn2 = nn.BatchNorm1d(width)
        self.fc3 = nn.Linear(width, width)
        self.bn3 = nn.BatchNorm1d(width)
        self.fc4 = nn.Linear(width, width)
        self.bn4 = nn.BatchNorm1d(width)
        self.fc5 = nn.Linear(width, 1)

    def forward(self, x):
        x = self.bn1(F.relu(self.fc1(x)))  # behind the activation here
        x = self.bn2(F.relu(self.fc2(x)))
        x = F.relu(self.bn3(self.fc3(x)))
        x = F.relu(self.bn4(self.fc4(x)))
        return self.fc5(x)
