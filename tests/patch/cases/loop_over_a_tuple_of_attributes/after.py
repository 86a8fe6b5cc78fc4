import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, width)
        self.bn2 = nn.BatchNorm1d(width)
        self.fc3 = nn.Linear(width, width)
        self.bn3 = nn.BatchNorm1d(width)
        self.fc4 = nn.Linear(width, width)
        self.bn4 = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        for fc, norm in zip((self.fc1, self.fc2, self.fc3, self.fc4), (self.bn1, self.bn2, self.bn3, self.bn4)):
            x = torch.relu(norm(fc(x)))
        return self.head(x)
