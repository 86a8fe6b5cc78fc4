import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, act: str = "gelu", width: int = 18):
        super().__init__()
        self.act = act
        self.lin_in = nn.Linear(9, width)
        self.lin_in_norm = nn.BatchNorm1d(width)
        self.lin_mid = nn.Linear(width, width)
        self.lin_mid_norm = nn.BatchNorm1d(width)
        self.lin_up = nn.Linear(width, 2 * width)
        self.lin_up_norm = nn.BatchNorm1d(2 * width)
        self.lin_down = nn.Linear(2 * width, width)
        self.lin_down_norm = nn.BatchNorm1d(width)
        self.lin_out = nn.Linear(width, 1)

    def activation(self, h):
        match self.act:
            case "relu":
                return F.relu(h)
            case "gelu":
                return F.gelu(h)
            case _:
                raise ValueError(self.act)

    def forward(self, x):
        h = self.activation(self.lin_in_norm(self.lin_in(x)))
        h = self.activation(self.lin_mid_norm(self.lin_mid(h)))
        h = self.activation(self.lin_up_norm(self.lin_up(h)))
        h = self.activation(self.lin_down_norm(self.lin_down(h)))
        return self.lin_out(h)


example_inputs = torch.randn(8, 9)
