import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, width=10, device=None, dtype=None):
        factory_kwargs = {"device": device, "dtype": dtype}
        super().__init__()
        self.fc1 = nn.Linear(width, width, **factory_kwargs)
        self.fc2 = nn.Linear(width, width, **factory_kwargs)
        self.fc3 = nn.Linear(width, width, **factory_kwargs)
        self.fc4 = nn.Linear(width, width, **factory_kwargs)
        self.out = nn.Linear(width, 1, **factory_kwargs)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        x = torch.relu(self.fc3(x))
        x = torch.relu(self.fc4(x))
        return self.out(x)
