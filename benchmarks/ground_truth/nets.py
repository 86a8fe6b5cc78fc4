"""A cell → a net: plain, convolutional and residual ones, with and without norms, and initialized well or badly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ground_truth.data import data_named


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
}


@dataclass(frozen=True)
class Cell:
    """One net to train: a family, what it is made of, and the seed that draws its weights.

    `depth` counts the blocks, or the residual blocks of two layers each; `width` the units or channels. `init` and
    `trap` are keys of the tables below. `scale` multiplies the standardized inputs, `shift` is added to them.
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

    @property
    def name(self) -> str:
        """Unique among the cells."""
        extras = [self.norm] if self.norm != "none" else []
        extras += [f"dropout{self.dropout}"] if self.dropout else []
        extras += [self.trap] if self.trap != "none" else []
        extras += [f"x{self.scale:g}"] if self.scale != 1 else []
        extras += [f"+{self.shift:g}"] if self.shift else []
        start = f"{self.family}: {self.data} {self.kind} {self.depth}x{self.width} {self.activation} {self.init}"
        return " ".join([start, *extras, f"seed{self.seed}"])

    def inputs(self, x: Tensor) -> Tensor:
        """Standardized data as this net is given it."""
        return x * self.scale + self.shift


def build(cell: Cell) -> nn.Module:
    """The net, its weights drawn from the cell's seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        net = BUILDERS[cell.kind](cell)
        _initialize(net, cell.init)
        TRAPS[cell.trap](_layers(net))
    return net


# -- architectures --


def _norm(cell: Cell, width: int, spatial: bool) -> list[nn.Module]:
    kinds: dict[str, Callable[[], list[nn.Module]]] = {
        "none": list,
        "bn": lambda: [nn.BatchNorm2d(width) if spatial else nn.BatchNorm1d(width)],
        "ln": lambda: [nn.GroupNorm(1, width) if spatial else nn.LayerNorm(width)],
        "gn": lambda: [nn.GroupNorm(math.gcd(width, 4), width)],
        "rms": lambda: [nn.RMSNorm(width)],
    }
    return kinds[cell.norm]()


def _block(cell: Cell, wide_in: int, wide_out: int, spatial: bool) -> list[nn.Module]:
    """A weight layer, its norm, its activation and dropout."""
    layer = nn.Conv2d(wide_in, wide_out, 3, padding=1) if spatial else nn.Linear(wide_in, wide_out)
    dropout = [nn.Dropout(cell.dropout)] if cell.dropout else []
    return [layer, *_norm(cell, wide_out, spatial), ACTIVATIONS[cell.activation](), *dropout]


def _mlp(cell: Cell) -> nn.Module:
    data = data_named(cell.data)
    layers = _block(cell, data.features, cell.width, False)
    for _ in range(cell.depth - 1):
        layers += _block(cell, cell.width, cell.width, False)
    return nn.Sequential(*layers, nn.Linear(cell.width, data.classes))


def _conv(cell: Cell) -> nn.Module:
    """3×3 convolutions on the 8×8 images, a pooling after half of them, and a head over all positions."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8)), *_block(cell, 1, cell.width, True)]
    for number in range(1, cell.depth):
        layers += [nn.MaxPool2d(2)] if number == (cell.depth + 1) // 2 else []
        layers += _block(cell, cell.width, cell.width, True)
    side = 4 if cell.depth > 1 else 8
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(cell.width * side**2, 10))


class Residual(nn.Module):
    """x + branch(x), the branch being two layers with the activation between; norms stand before the layers."""

    def __init__(self, cell: Cell, spatial: bool) -> None:
        super().__init__()

        def layer() -> nn.Module:
            width = cell.width
            return nn.Conv2d(width, width, 3, padding=1) if spatial else nn.Linear(width, width)

        self.branch = nn.Sequential(
            *_norm(cell, cell.width, spatial), ACTIVATIONS[cell.activation](), layer(),
            *_norm(cell, cell.width, spatial), ACTIVATIONS[cell.activation](), layer(),
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


BUILDERS = {"mlp": _mlp, "conv": _conv, "resmlp": _residual_mlp, "resconv": _residual_conv}

# -- initializations --


def _layers(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def _initialize(net: nn.Module, init: str) -> None:
    """Weights by `init`, biases zero; `default` leaves PyTorch's own."""
    if init == "default":
        return
    for layer in _layers(net):
        INITIALIZATIONS[init](layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _he_times(factor: float) -> Callable[[Tensor], object]:
    def initialize(weight: Tensor) -> None:
        nn.init.kaiming_normal_(weight)
        weight.data.mul_(factor)

    return initialize


INITIALIZATIONS: dict[str, Callable[[Tensor], object]] = {
    "glorot": nn.init.xavier_normal_,
    "he": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
    "lecun": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear"),
    "he/10": _he_times(0.1),
    "he/3": _he_times(1 / 3),
    "he*3": _he_times(3.0),
    "he*10": _he_times(10.0),
    "normal0.01": lambda weight: nn.init.normal_(weight, std=0.01),
    "normal1": lambda weight: nn.init.normal_(weight, std=1.0),
    "constant": lambda weight: nn.init.constant_(weight, 1 / weight[0].numel()),
    "zero": nn.init.zeros_,
}

# -- traps --

Layers = list[nn.Linear | nn.Conv2d]


def _head(value: float) -> Callable[[Layers], None]:
    def change(layers: Layers) -> None:
        nn.init.constant_(layers[-1].weight, value)
        if layers[-1].bias is not None:
            nn.init.zeros_(layers[-1].bias)

    return change


def _biases(value: float, where: slice = slice(0, -1)) -> Callable[[Layers], None]:
    def change(layers: Layers) -> None:
        for layer in layers[where]:
            assert layer.bias is not None
            nn.init.constant_(layer.bias, value)

    return change


def _middle_bias(value: float) -> Callable[[Layers], None]:
    def change(layers: Layers) -> None:
        bias = layers[len(layers) // 2].bias
        assert bias is not None
        nn.init.constant_(bias, value)

    return change


TRAPS: dict[str, Callable[[Layers], None]] = {
    "none": lambda layers: None,
    "zero head": _head(0.0),
    "constant head": _head(0.01),
    "biases -1": _biases(-1.0),
    "biases -10": _biases(-10.0),
    "biases +1": _biases(1.0),
    "biases +10": _biases(10.0),
    "one layer's biases -100": _middle_bias(-100.0),
    "first biases -3": _biases(-3.0, slice(0, 1)),
}
