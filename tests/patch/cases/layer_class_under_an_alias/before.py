import torch as th
from torch.nn import functional as F


class Net(th.nn.Module):
    def __init__(self, n=10):
        super().__init__()
        L = th.nn.Linear
        self.l1, self.l2 = L(n, n), L(n, n)
        self.l3, self.l4 = L(n, n), L(n, n)
        self.l5 = L(n, 1)

    def forward(self, x):
        x = F.leaky_relu(self.l1(x), 0.1)
        x = F.leaky_relu(self.l2(x), 0.1)
        x = F.leaky_relu(self.l3(x), 0.1)
        x = F.leaky_relu(self.l4(x), 0.1)
        return self.l5(x)


example_inputs = th.randn(8, 10)
