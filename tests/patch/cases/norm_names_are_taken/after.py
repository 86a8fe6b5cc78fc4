import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn1 = nn.BatchNorm1d(32)  # of the input
        self.fc1 = nn.Linear(32, 32)
        self.fc1_norm = nn.BatchNorm1d(32)
        self.fc2 = nn.Linear(32, 32)
        self.fc2_norm = nn.BatchNorm1d(32)
        self.fc3 = nn.Linear(32, 32)
        self.fc3_norm = nn.BatchNorm1d(32)
        self.fc4 = nn.Linear(32, 32)
        self.fc4_norm = nn.BatchNorm1d(32)
        self.fc5 = nn.Linear(32, 2)

    def forward(self, x):
        x = self.bn1(x)
        x = F.elu(self.fc1_norm(self.fc1(x)))
        x = F.elu(self.fc2_norm(self.fc2(x)))
        x = F.elu(self.fc3_norm(self.fc3(x)))
        x = F.elu(self.fc4_norm(self.fc4(x)))
        return self.fc5(x)


example_inputs = torch.randn(8, 32)
