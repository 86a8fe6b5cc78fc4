"""A cell → a net: plain, convolutional and residual ones, with and without norms; other_nets.py has more."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ground_truth.blocks import ACTIVATIONS, Cell, between, block_of, norm_of
from ground_truth.data import data_named
from ground_truth.initializing import TRAPS, initialize, layers_of
from ground_truth.other_nets import OTHER_BUILDERS


def _mlp(cell: Cell) -> nn.Module:
    data = data_named(cell.data)
    layers = block_of(cell, data.features, cell.width, False)
    for _ in range(cell.depth - 1):
        layers += block_of(cell, cell.width, cell.width, False)
    return nn.Sequential(*layers, nn.Linear(cell.width, data.classes))


def _conv(cell: Cell) -> nn.Module:
    """3×3 convolutions on the 8×8 images, a pooling after half of them, and a head over all positions."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8)), *block_of(cell, 1, cell.width, True)]
    for number in range(1, cell.depth):
        layers += [nn.MaxPool2d(2)] if number == (cell.depth + 1) // 2 else []
        layers += block_of(cell, cell.width, cell.width, True)
    side = 4 if cell.depth > 1 else 8
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(cell.width * side**2, 10))


class Residual(nn.Module):
    """x + branch(x), the branch being two layers with the activation between; norms stand before the layers."""

    def __init__(self, cell: Cell, spatial: bool) -> None:
        super().__init__()

        def layer() -> nn.Module:
            width = cell.width
            return nn.Conv2d(width, width, 3, padding=1) if spatial else nn.Linear(width, width)

        def norm() -> list[nn.Module]:
            return norm_of(cell, cell.width, spatial) or between(cell, cell.width, spatial)

        self.branch = nn.Sequential(
            *norm(), ACTIVATIONS[cell.activation](), layer(),
            *norm(), ACTIVATIONS[cell.activation](), layer(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        added: Tensor = x + self.branch(x)
        return added


def _residual_mlp(cell: Cell) -> nn.Module:
    data = data_named(cell.data)
    blocks = [Residual(cell, False) for _ in range(cell.depth)]
    return nn.Sequential(nn.Linear(data.features, cell.width), *blocks, nn.Linear(cell.width, data.classes))


def _residual_conv(cell: Cell) -> nn.Module:
    blocks = [Residual(cell, True) for _ in range(cell.depth)]
    stem = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, cell.width, 3, padding=1)
    return nn.Sequential(*stem, *blocks, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(cell.width * 16, 10))


BUILDERS: dict[str, Callable[[Cell], nn.Module]] = OTHER_BUILDERS | {
    "mlp": _mlp,
    "conv": _conv,
    "resmlp": _residual_mlp,
    "resconv": _residual_conv,
}


def build(cell: Cell) -> nn.Module:
    """The net, its weights drawn from the cell's seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        net = BUILDERS[cell.kind](cell)
        initialize(net, cell.init)
        TRAPS[cell.trap](layers_of(net))
    return net
