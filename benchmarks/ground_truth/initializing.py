"""How the weights of a net are drawn, and what is wrong with them on purpose."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Layers = list[nn.Linear | nn.Conv1d | nn.Conv2d]


def layers_of(net: nn.Module) -> Layers:
    """The weight layers, in the order in which they were made: the head last."""
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)]


def initialize(net: nn.Module, init: str) -> None:
    """Weights by `init`, biases zero; `default` leaves PyTorch's own."""
    if init == "default":
        return
    for layer in layers_of(net):
        INITIALIZATIONS[init](layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _he_times(factor: float) -> Callable[[Tensor], object]:
    def change(weight: Tensor) -> None:
        nn.init.kaiming_normal_(weight)
        weight.data.mul_(factor)

    return change


INITIALIZATIONS: dict[str, Callable[[Tensor], object]] = {
    "glorot": nn.init.xavier_normal_,
    "he": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
    "lecun": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear"),
    "he/10": _he_times(0.1),
    "he/3": _he_times(1 / 3),
    "he*3": _he_times(3.0),
    "he*10": _he_times(10.0),
    "he*2": _he_times(2.0),
    "he/30": _he_times(1 / 30),
    "he uniform": nn.init.kaiming_uniform_,
    "glorot uniform": nn.init.xavier_uniform_,
    "lecun uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="linear"),
    "truncated0.02": lambda weight: nn.init.trunc_normal_(weight, std=0.02),
    "uniform0.05": lambda weight: nn.init.uniform_(weight, -0.05, 0.05),
    "normal0.01": lambda weight: nn.init.normal_(weight, std=0.01),
    "normal1": lambda weight: nn.init.normal_(weight, std=1.0),
    "constant": lambda weight: nn.init.constant_(weight, 1 / weight[0].numel()),
    "zero": nn.init.zeros_,
}

# -- traps --


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


def _no_biases(layers: Layers) -> None:
    for layer in layers:
        layer.bias = None


def _weight_norm(layers: Layers) -> None:
    for layer in layers[:-1]:
        nn.utils.parametrizations.weight_norm(layer)


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
    "no biases": _no_biases,
    "weight norm": _weight_norm,
}
