import torch
from torch.nn import Linear, Module, ModuleList


class Net(Module):
    def __init__(self, width=32, depth=5, device=None):
        super().__init__()
        self.inp = Linear(16, width, device=device)
        self.body = ModuleList([Linear(width, width, device=device) for _ in range(depth)])
        self.out = Linear(width, 4, device=device)

    def forward(self, x):
        x = torch.sigmoid(self.inp(x))
        for layer in self.body:
            x = torch.sigmoid(layer(x))
        return self.out(x)
