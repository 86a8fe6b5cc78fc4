import torch
from torch import nn


class EqualLinear(nn.Linear):
    """A linear layer whose weight is drawn from N(0, 1) and scaled when it is used."""

    def __init__(self, in_dim, out_dim):
        super().__init__(in_dim, out_dim)
        nn.init.normal_(self.weight)

    def forward(self, x):
        return nn.functional.linear(x, self.weight / self.in_features**0.5, self.bias)


class Mapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = EqualLinear(10, 20)
        self.fc2 = EqualLinear(20, 20)
        self.fc3 = EqualLinear(20, 20)
        self.fc4 = EqualLinear(20, 20)
        self.out = EqualLinear(20, 5)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, z):
        z = self.act(self.fc1(z))
        z = self.act(self.fc2(z))
        z = self.act(self.fc3(z))
        z = self.act(self.fc4(z))
        return self.out(z)


example_inputs = torch.randn(8, 10)
