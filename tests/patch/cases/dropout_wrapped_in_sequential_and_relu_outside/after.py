import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, n=16, p=0.25):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(n, n), nn.BatchNorm1d(n), nn.Dropout(p))
        self.layer2 = nn.Sequential(nn.Dropout(p), nn.Linear(n, 2 * n), nn.BatchNorm1d(2 * n))
        self.layer3 = nn.Sequential(nn.Linear(2 * n, n), nn.BatchNorm1d(n), nn.Dropout(p),)
        self.layer4 = nn.Sequential(*[nn.Linear(n, n), nn.BatchNorm1d(n)])
        self.layer5 = nn.Linear(n, 2)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        x = F.relu(self.layer3(x))
        x = F.relu(self.layer4(x))
        return self.layer5(x)
