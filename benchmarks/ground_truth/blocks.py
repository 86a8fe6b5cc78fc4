"""A cell, which says what net to make, and the blocks that all kinds of nets are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


class Exp(nn.Module):
    """e^x."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x.exp()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "selu": nn.SELU,
    "softplus": nn.Softplus,
    "exp": Exp,
    "elu": nn.ELU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "softsign": nn.Softsign,
    "prelu": nn.PReLU,
}


@dataclass(frozen=True)
class Cell:
    """One net to train: a family, what it is made of, and the seed that draws its weights.

    `depth` counts the blocks, or the residual blocks of two layers each; `width` the units or channels. `init` and
    `trap` are keys of the tables below. `scale` multiplies the standardized inputs, `shift` is added to them. `by_hand`
    is of no cell that was labelled: the same net, to the last weight, with batch norm between each weight layer and its
    activation, as a person would write it; a norm that stands there already stays.
    """

    family: str
    data: str
    kind: str
    depth: int
    width: int
    activation: str
    init: str
    seed: int
    norm: str = "none"
    dropout: float = 0.0
    trap: str = "none"
    scale: float = 1.0
    shift: float = 0.0
    by_hand: bool = False

    @property
    def name(self) -> str:
        """Unique among the cells."""
        extras = [self.norm] if self.norm != "none" else []
        extras += [f"dropout{self.dropout}"] if self.dropout else []
        extras += [self.trap] if self.trap != "none" else []
        extras += [f"x{self.scale:g}"] if self.scale != 1 else []
        extras += [f"+{self.shift:g}"] if self.shift else []
        extras += ["bn by hand"] if self.by_hand else []
        start = f"{self.family}: {self.data} {self.kind} {self.depth}x{self.width} {self.activation} {self.init}"
        return " ".join([start, *extras, f"seed{self.seed}"])

    def inputs(self, x: Tensor) -> Tensor:
        """Standardized data as this net is given it."""
        return x * self.scale + self.shift


def norm_of(cell: Cell, width: int, spatial: bool) -> list[nn.Module]:
    kinds: dict[str, Callable[[], list[nn.Module]]] = {
        "none": list,
        "bn": lambda: [nn.BatchNorm2d(width) if spatial else nn.BatchNorm1d(width)],
        "ln": lambda: [nn.GroupNorm(1, width) if spatial else nn.LayerNorm(width)],
        "gn": lambda: [nn.GroupNorm(math.gcd(width, 4), width)],
        "rms": lambda: [nn.RMSNorm(width)],
    }
    return kinds[cell.norm]()


def between(cell: Cell, width: int, spatial: bool) -> list[nn.Module]:
    """What stands between a weight layer that has no norm and its activation: nothing, or batch norm `by_hand`. It
    draws no number, so that the weights are the same either way."""
    if not cell.by_hand:
        return []
    return [nn.BatchNorm2d(width) if spatial else nn.BatchNorm1d(width)]


def block_of(cell: Cell, wide_in: int, wide_out: int, spatial: bool) -> list[nn.Module]:
    """A weight layer, its norm, its activation and dropout."""
    layer = nn.Conv2d(wide_in, wide_out, 3, padding=1) if spatial else nn.Linear(wide_in, wide_out)
    dropout = [nn.Dropout(cell.dropout)] if cell.dropout else []
    norm = norm_of(cell, wide_out, spatial) or between(cell, wide_out, spatial)
    return [layer, *norm, ACTIVATIONS[cell.activation](), *dropout]
