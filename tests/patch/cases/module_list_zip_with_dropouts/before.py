import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, dim=20, depth=4, p=0.1):
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(dim, dim) for _ in range(depth)])
        self.drops = nn.ModuleList([nn.Dropout(p) for _ in range(depth)])
        self.head = nn.Linear(dim, 2)

    def forward(self, x):
        for lin, drop in zip(self.lins, self.drops):
            x = drop(F.mish(lin(x)))
        return self.head(x)
