import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, depth=5, width=16):
        super().__init__()
        self.blocks = nn.ModuleDict({f"block_{i}": nn.Linear(width, width) for i in range(depth)})
        self.blocks_norms = nn.ModuleDict({f"block_{i}": nn.BatchNorm1d(width) for i in range(depth)})
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        for block, norm in zip(self.blocks.values(), self.blocks_norms.values()):
            x = torch.nn.functional.softplus(norm(block(x)))
        return self.out(x)


example_inputs = torch.randn(8, 16)
