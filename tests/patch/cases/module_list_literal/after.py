import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fcs = nn.ModuleList([nn.Linear(10, 20), nn.Linear(20, 30), nn.Linear(30, 30), nn.Linear(30, 10)])
        self.fcs_norms = nn.ModuleList([nn.BatchNorm1d(20), nn.BatchNorm1d(30), nn.BatchNorm1d(30), nn.BatchNorm1d(10)])
        self.out = nn.Linear(10, 1)

    def forward(self, x):
        for i, fc in enumerate(self.fcs):
            x = F.hardswish(self.fcs_norms[i](fc(x)))
        return self.out(x)
