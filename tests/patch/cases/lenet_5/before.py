"""LeNet-5 (LeCun et al., 1998), with tanh and average pooling."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class LeNet5(nn.Module):
    def __init__(self, n_classes=10):
        super(LeNet5, self).__init__()
        self.C1 = nn.Conv2d(1, 6, kernel_size=5)
        self.S2 = nn.AvgPool2d(2)
        self.C3 = nn.Conv2d(6, 16, kernel_size=5)
        self.S4 = nn.AvgPool2d(2)
        self.C5 = nn.Conv2d(16, 120, kernel_size=5)
        self.F6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, n_classes)

    def forward(self, x):
        x = self.S2(torch.tanh(self.C1(x)))
        x = self.S4(torch.tanh(self.C3(x)))
        x = torch.tanh(self.C5(x))
        x = torch.flatten(x, 1)
        x = torch.tanh(self.F6(x))
        logits = self.output(x)
        return logits, F.softmax(logits, dim=1)


example_inputs = torch.randn(4, 1, 32, 32)
