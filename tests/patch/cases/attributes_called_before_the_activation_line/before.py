import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.l1 = nn.Linear(dim, 2 * dim)
        self.l2 = nn.Linear(2 * dim, 2 * dim)
        self.l3 = nn.Linear(2 * dim, 4 * dim)
        self.l4 = nn.Linear(4 * dim, dim)
        self.l5 = nn.Linear(dim, 3)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(p=0.2)

    def forward(self, x):
        out = self.l1(x)
        out = self.relu(out)
        out = self.l2(out)
        out = self.dropout(out)
        out = self.relu(out)
        out = self.l3(out)
        out = self.relu(out)
        out = self.l4(out)
        out = self.relu(out)
        # no activation and no softmax at the end
        out = self.l5(out)
        return out


example_inputs = torch.randn(8, 24)
