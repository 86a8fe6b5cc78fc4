import torch
import torch.nn as nn


def make_model(width=16):
    class Net(nn.Module):
        def __init__(self):
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
            x = torch.relu(self.bn2(self.fc2(torch.relu(self.bn1(self.fc1(x))))))
            x = torch.relu(self.bn4(self.fc4(torch.relu(self.bn3(self.fc3(x))))))
            return self.head(x)

    return Net()
