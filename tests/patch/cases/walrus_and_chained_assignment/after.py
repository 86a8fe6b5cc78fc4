import torch
from torch import nn
from torch.nn.functional import relu


class Net(nn.Module):
    def __init__(self, width: int = 16):
        super().__init__()
        self.lin1 = nn.Linear(6, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.lin2 = nn.Linear(width, width)
        self.bn2 = nn.BatchNorm1d(width)
        self.lin3 = nn.Linear(width, width)
        self.bn3 = nn.BatchNorm1d(width)
        self.lin4 = nn.Linear(width, width)
        self.bn4 = nn.BatchNorm1d(width)
        self.lin5 = nn.Linear(width, 3)
        self.last = None

    def forward(self, x):
        h = first = relu(self.bn1(self.lin1(x)))
        if (h := relu(self.bn2(self.lin2(h)))).dim() != 2:
            raise ValueError("expected (N, C)")
        h = relu(z := self.bn3(self.lin3(h)))
        assert z.shape == first.shape
        self.last = h = relu(self.bn4(self.lin4(h))); return self.lin5(h)


example_inputs = torch.randn(5, 6)
