import torch.nn as nn
import torch


class Net(nn.Module):
    """Gespeichert mit Notepad – samt BOM."""

    def __init__(self, d=10):
        super().__init__()
        self.net = nn.Sequential()
        self.net.append(nn.Linear(d, d))
        self.net.append(nn.ReLU())
        self.net.append(nn.Linear(d, d))
        self.net.append(nn.ReLU())
        self.net.append(nn.Linear(d, d))
        self.net.append(nn.ReLU())
        self.net.append(nn.Linear(d, d))
        self.net.append(nn.ReLU())
        self.net.append(nn.Linear(d, 1))

    def forward(self, x):
        return self.net(x)
