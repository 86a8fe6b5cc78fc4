import torch
from torch import nn
import torch.nn.functional as F


class DoubleConv(nn.Module):
    """(conv => relu) * 2"""

    def __init__(self, in_ch, out_ch, mid_ch=None):
        super().__init__()
        if not mid_ch:
            mid_ch = out_ch
        self.conv_a = nn.Conv2d(in_ch, mid_ch, 3, padding=1)
        self.conv_b = nn.Conv2d(mid_ch, out_ch, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.conv_a(x))
        return F.relu(self.conv_b(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc = DoubleConv(1, 4)
        self.down = DoubleConv(4, 8, mid_ch=6)
        self.outc = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        x = self.inc(x)
        x = self.down(F.max_pool2d(x, 2))
        return self.outc(x)


example_inputs = torch.randn(2, 1, 8, 8)
