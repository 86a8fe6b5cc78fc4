import torch.nn as nn

from .sizes import FEATURES


class Layers(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, width)
        self.bn2 = nn.BatchNorm1d(width)
        self.fc3 = nn.Linear(width, width)
        self.bn3 = nn.BatchNorm1d(width)
        self.fc4 = nn.Linear(width, width)
        self.bn4 = nn.BatchNorm1d(width)
        self.fc5 = nn.Linear(width, 2)
