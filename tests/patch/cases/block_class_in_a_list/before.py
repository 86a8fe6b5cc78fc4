import torch
from torch import nn


class Layer(nn.Module):
    """One layer: linear, activation, dropout."""

    def __init__(self, in_size: int, out_size: int, p: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)
        self.drop = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(torch.relu(self.linear(x)))


class MLP(nn.Module):
    def __init__(self, sizes: tuple[int, ...] = (10, 20, 20, 20, 20)) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(a, b, p=0.1) for a, b in zip(sizes, sizes[1:])])
        self.out = nn.Linear(sizes[-1], 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


example_inputs = torch.randn(8, 10)
