"""Predicted against measured decades: `python benchmarks/theory.py`. Exits 1 if a prediction misses its criterion.

Plain chains of Linear and of convolutions, each the mean over seeds; then nets of which the theory says nothing. Inputs
are standard normal, the loss is a random projection of the output.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from tabulate import tabulate
from torch import Tensor, nn

import gradcheck_tool as gct

SEEDS = range(5)
WIDTH, BATCH, CLASSES = 512, 64, 10
CHANNELS, IMAGE, CONV_DEPTH, CONV_BATCH = 64, 28, 10, 16
DEPTHS = (5, 10, 20, 30)
ACTIVATIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "GELU": nn.GELU}
Initialize = Callable[[Tensor], object]
INITIALIZATIONS: dict[str, Initialize | None] = {
    "default": None,
    "Glorot": nn.init.xavier_normal_,
    "He": nn.init.kaiming_normal_,
}


def figures(model: nn.Module, x: Tensor) -> tuple[float | None, float | None, str | None]:
    """Predicted decades, measured decades, and the reason where nothing is predicted."""
    chain = gct.audit(model, x).chains[0]
    return chain.predicted_decades, gct.probe(model, x).measured_decades, chain.note


def dense(depth: int, activation: type[nn.Module], initialize: Initialize | None) -> nn.Sequential:
    """`depth` blocks of Linear and activation, and a head."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
    return initialized(nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES)), initialize)


def convolutional(activation: type[nn.Module], initialize: Initialize | None, strided: bool) -> nn.Sequential:
    """Ten blocks of a padded 3×3 convolution and activation on 28×28 images; `strided` halves the image twice."""
    layers: list[nn.Module] = []
    size = IMAGE
    for block in range(CONV_DEPTH):
        stride = 2 if strided and block in (3, 6) else 1
        size = (size - 1) // stride + 1
        layers += [nn.Conv2d(CHANNELS if block else 3, CHANNELS, 3, stride, padding=1), activation()]
    return initialized(nn.Sequential(*layers, nn.Flatten(), nn.Linear(CHANNELS * size**2, CLASSES)), initialize)


def initialized(model: nn.Sequential, initialize: Initialize | None) -> nn.Sequential:
    """The model with `initialize` applied to its weights and its biases set to zero; None leaves PyTorch's default."""
    for module in model:
        if initialize is not None and isinstance(module, nn.Linear | nn.Conv2d):
            initialize(module.weight)
            nn.init.zeros_(module.bias)
    return model


def mean_over_seeds(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean predicted and mean measured decades; a missing figure counts as nan, which meets no criterion."""
    predicted, measured = [], []
    for seed in SEEDS:
        torch.manual_seed(seed)
        guess, truth, _ = figures(build(), torch.randn(shape))
        predicted.append(float("nan") if guess is None else guess)
        measured.append(float("nan") if truth is None else truth)
    return sum(predicted) / len(predicted), sum(measured) / len(measured)


def dense_rows() -> Iterator[tuple[object, ...]]:
    """5 % or 0.1 decades; GELU with He 0.5, since its fixed point is unstable and widths of 512 are not wide."""
    for name, activation in ACTIVATIONS.items():
        for rule, initialize in INITIALIZATIONS.items():
            for depth in DEPTHS:
                pair = mean_over_seeds(lambda d=depth, a=activation, i=initialize: dense(d, a, i), (BATCH, WIDTH))
                absolute = 0.5 if (name, rule) == ("GELU", "He") else 0.1
                yield f"Linear {WIDTH}", name, rule, depth, *judged(*pair, 0.05, absolute)


def convolutional_rows() -> Iterator[tuple[object, ...]]:
    """15 % or 0.3 decades."""
    for strided in (False, True):
        for name, activation in ACTIVATIONS.items():
            for rule, initialize in INITIALIZATIONS.items():
                pair = mean_over_seeds(
                    lambda a=activation, i=initialize, s=strided: convolutional(a, i, s), (CONV_BATCH, 3, IMAGE, IMAGE)
                )
                kind = f"Conv {IMAGE}×{IMAGE}" + (", stride" if strided else "")
                yield kind, name, rule, CONV_DEPTH, *judged(*pair, 0.15, 0.3)


def judged(predicted: float, measured: float, relative: float, absolute: float) -> tuple[float, float, float, str]:
    """The two figures, their difference, and whether it is within `relative` or `absolute`."""
    difference = predicted - measured
    good = abs(difference) <= max(absolute, relative * abs(measured))
    return predicted, measured, difference, "ok" if good else "MISS"


def shifted(weight: Tensor) -> None:
    """He, and a mean of 0.05."""
    nn.init.kaiming_normal_(weight)
    weight.data.add_(0.05)


def spiked(weight: Tensor) -> None:
    """He, and one singular value ten times the largest of the others, its direction the same in all layers."""
    nn.init.kaiming_normal_(weight)
    direction = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0))
    left = direction[: weight.shape[0]]
    edge = weight.std().item() * (weight.shape[0] ** 0.5 + weight.shape[1] ** 0.5)
    weight.data.add_(10 * edge * torch.outer(left / left.norm(), direction / direction.norm()))


def refused_rows() -> Iterator[tuple[object, ...]]:
    """Nets of which nothing must be predicted."""
    recipes: dict[str, Initialize] = {
        "He + mean 0.05": shifted,
        "constant 0.01": lambda weight: nn.init.constant_(weight, 0.01),
        "one huge singular value": spiked,
    }
    for name, initialize in recipes.items():
        torch.manual_seed(0)
        predicted, measured, reason = figures(dense(10, nn.ReLU, initialize), torch.randn(BATCH, WIDTH))
        yield name, predicted, measured, reason, "ok" if predicted is None and reason else "MISS"


def main() -> int:
    """Print the tables; 1 if any row misses."""
    rows = [*dense_rows(), *convolutional_rows()]
    refused = list(refused_rows())
    head = ("chain", "activation", "init", "depth", "predicted", "measured", "difference", "")
    print(f"log10 of the gradient norm at the first block over that at the last, mean of {len(SEEDS)} seeds\n")
    print(tabulate(rows, head, floatfmt="+.3f"))
    print("\nWhere the theory does not hold (ReLU, 10 layers)\n")
    head_refused = ("weights", "predicted", "measured", "why nothing is predicted", "")
    print(
        tabulate(refused, head_refused, floatfmt="+.3f", missingval="null", maxcolwidths=[None, None, None, 70, None])
    )
    missed = sum(row[-1] != "ok" for row in [*rows, *refused])
    print(f"\n{missed} of {len(rows) + len(refused)} rows miss their criterion")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
