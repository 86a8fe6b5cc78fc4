import torch
from torch import nn

from layers import linear


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = linear(12, 24)
        self.fc2 = linear(24, 24)
        self.fc3 = linear(24, 24)
        self.fc4 = linear(24, 12)
        self.fc5 = linear(12, 1)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        x = torch.relu(self.fc3(x))
        x = torch.relu(self.fc4(x))
        return self.fc5(x)


example_inputs = torch.randn(8, 12)
