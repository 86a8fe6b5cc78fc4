import torch
import torch.nn as nn

conv = lambda c_in, c_out: nn.Conv1d(c_in, c_out, kernel_size=3, padding=1)  # noqa: E731


class WaveNetish(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = conv(1, 4)
        self.bn1 = nn.BatchNorm1d(4)
        self.c2 = conv(4, 8)
        self.bn2 = nn.BatchNorm1d(8)
        self.c3 = conv(8, 8)
        self.bn3 = nn.BatchNorm1d(8)
        self.c4 = conv(8, 8)
        self.bn4 = nn.BatchNorm1d(8)
        self.out = conv(8, 1)

    def forward(self, x):
        x = torch.tanh(self.bn1(self.c1(x)))
        x = torch.tanh(self.bn2(self.c2(x)))
        x = torch.tanh(self.bn3(self.c3(x)))
        x = torch.tanh(self.bn4(self.c4(x)))
        return self.out(x)


example_inputs = torch.randn(3, 1, 16)
