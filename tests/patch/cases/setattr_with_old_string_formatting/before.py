import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, widths=[10, 20, 30, 20, 10]):
        super(Net, self).__init__()
        self.depth = len(widths) - 1
        for i in range(self.depth):
            setattr(self, 'layer%d' % i, nn.Linear(widths[i], widths[i + 1]))
        self.out = nn.Linear(widths[-1], 2)

    def forward(self, x):
        for i in range(self.depth):
            x = F.relu(getattr(self, 'layer%d' % i)(x))
        return self.out(x)
