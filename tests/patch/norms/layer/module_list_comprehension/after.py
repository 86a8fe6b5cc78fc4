import torch
from torch.nn import LayerNorm, Linear, Module, ModuleList


class Net(Module):
    def __init__(self, width=32, depth=5, device=None):
        super().__init__()
        self.inp = Linear(16, width, device=device)
        self.inp_norm = LayerNorm(width, device=device)
        self.body = ModuleList([Linear(width, width, device=device) for _ in range(depth)])
        self.body_norms = ModuleList([LayerNorm(width, device=device) for _ in range(depth)])
        self.out = Linear(width, 4, device=device)

    def forward(self, x):
        x = torch.sigmoid(self.inp_norm(self.inp(x)))
        for layer, norm in zip(self.body, self.body_norms):
            x = torch.sigmoid(norm(layer(x)))
        return self.out(x)
