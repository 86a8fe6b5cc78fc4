import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(32, 48)
        self.bn1 = nn.BatchNorm1d(48)
        self.fc2 = nn.Linear(48, 48)
        self.bn2 = nn.BatchNorm1d(48)
        self.fc3 = nn.Linear(48, 48)
        self.bn3 = nn.BatchNorm1d(48)
        self.fc4 = nn.Linear(48, 16)
        self.bn4 = nn.BatchNorm1d(16)
        self.fc5 = nn.Linear(16, 4)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = self.drop(F.relu(self.bn1(self.fc1(x))))
        x = self.drop(F.relu(self.bn2(self.fc2(0.5 * x)), inplace=True))
        return self.fc5(self.drop(F.relu(self.bn4(self.fc4(self.drop(F.relu(self.bn3(self.fc3(x)))))))))
