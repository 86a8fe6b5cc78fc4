import torch
import torch.nn as nn
import torch.nn.functional as F


def activated(layer, x, p, training):
    return F.dropout(F.relu(layer(x)), p=p, training=training)


class Net(nn.Module):
    def __init__(self, n=20):
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(10, n), nn.BatchNorm1d(n))
        self.fc2 = nn.Sequential(nn.Linear(n, n), nn.BatchNorm1d(n))
        self.fc3 = nn.Sequential(nn.Linear(n, n), nn.BatchNorm1d(n))
        self.fc4 = nn.Sequential(nn.Linear(n, n // 2), nn.BatchNorm1d(n // 2))
        self.fc5 = nn.Linear(n // 2, 2)

    def forward(self, x):
        x = activated(self.fc1, x, 0.1, self.training)
        x = activated(self.fc2, x, 0.1, self.training)
        x = activated(self.fc3, x, 0.1, self.training)
        x = activated(self.fc4, x, 0.1, self.training)
        return self.fc5(x)


example_inputs = torch.randn(6, 10)
