import torch
import torch.nn as nn
import torch.nn.functional as F


class Encoder(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.fc1 = nn.Linear(8, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, width)
        self.fc4 = nn.Linear(width, width)
        self.fc5 = nn.Linear(width, 4)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        x = F.relu(self.fc4(x))
        return self.fc5(x)


class Siamese(nn.Module):
    """The distance of two inputs, by one encoder."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, left, right):
        return F.pairwise_distance(self.encoder(left), self.encoder(right))


model = Siamese()
example_inputs = (torch.randn(8, 8), torch.randn(8, 8))
