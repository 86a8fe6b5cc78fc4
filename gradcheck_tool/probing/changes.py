"""How the gradient norm changes from layer to layer: along a chain, and over the whole model.

What is compared are ratios of norms, so that the scale of the loss cancels. An exact zero is a change (an underflow)
only where the norms above it fell towards it; else something on the way is zero, which zeros.py looks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gradcheck_tool.results import LayerGradient

Span = tuple[str, str]
"""The first and the last layer between which a change was measured."""

_STEEP = 1e-3
"""A fall to zero counts as an underflow where the norm above it is within this factor of the smallest number of the
dtype, or within the steepest step of the norms above, if that is steeper."""


def decades_between(first: float | None, last: float | None) -> float | None:
    """log10 of `first` over `last`; None where there is nothing to compare."""
    if first is None or last is None or math.isnan(first) or math.isnan(last) or first == last == 0.0:
        return None
    if first == 0.0 or last == math.inf:
        return -math.inf if first != math.inf else None
    if last == 0.0 or first == math.inf:
        return math.inf
    return math.log10(first) - math.log10(last)


def underflowed(norms: Sequence[float], floors: Sequence[float]) -> bool:
    """Whether `norms`, from the input upwards, begin with zeros because the gradient became too small for its dtype.

    Args:
        norms: gradient norms of the layers' outputs.
        floors: for each, the norm below which its dtype holds nothing but zeros.
    """
    start = next((index for index, value in enumerate(norms) if value), len(norms))
    if start in (0, len(norms)):
        return False
    above = [value for value in norms[start:] if value]
    steps = [below / over for below, over in pairwise(above)]
    return above[0] * min([_STEEP, *steps]) <= floors[start - 1]


def largest_change(
    layers: Sequence[LayerGradient], chains: Sequence[Sequence[str]], floors: Mapping[str, float]
) -> tuple[float | None, Span | None]:
    """The change of the output-gradient norm, in decades, over the chain where it is largest; without a chain of two
    blocks, from the first to the last weight layer. None where it was not measured, or where an end is zero for another
    reason than an underflow.

    Args:
        layers: in the order in which they ran.
        chains: the names of the layers of each chain.
        floors: by layer, the norm below which the dtype of its output holds nothing but zeros.
    """
    measured = {layer.name: layer.output_grad_norm for layer in layers if layer.output_grad_norm is not None}
    runs = [[name for name in chain if name in measured] for chain in chains if len(chain) > 1]
    if not runs:
        runs = [_without_zeros(measured, floors)]
    best: tuple[float, Span] | None = None
    for run in runs:
        change = _along(run, measured, floors)
        if change is not None and (best is None or abs(change) > abs(best[0])):
            best = change, (run[0], run[-1])
    return best if best is not None else (None, None)


def _along(run: Sequence[str], measured: Mapping[str, float], floors: Mapping[str, float]) -> float | None:
    if len(run) < 2:
        return None
    norms = [measured[name] for name in run]
    if 0.0 in (norms[0], norms[-1]):
        return -math.inf if underflowed(norms, [floors.get(name, 0.0) for name in run]) else None
    return decades_between(norms[0], norms[-1])


def _without_zeros(measured: Mapping[str, float], floors: Mapping[str, float]) -> list[str]:
    """The layers but for those whose gradient is zero for another reason than an underflow."""
    if underflowed(list(measured.values()), [floors.get(name, 0.0) for name in measured]):
        return list(measured)
    return [name for name, value in measured.items() if value]


def shrinkage(layers: Sequence[LayerGradient]) -> float | None:
    """log10 of the median output-gradient norm of the first quarter of the layers over that of the last quarter, zeros
    left out. Medians, since single layers differ for harmless reasons: the queries of an attention get a hundredth."""
    measured = (layer.output_grad_norm for layer in layers)
    norms = [value for value in measured if value and math.isfinite(value)]
    if len(norms) < 2:
        return None
    quarter = max(1, len(norms) // 4)
    return decades_between(_median(norms[:quarter]), _median(norms[-quarter:]))


def growth(layers: Sequence[LayerGradient]) -> tuple[float, Span] | tuple[None, None]:
    """log10 of ‖∂L/∂W‖·‖W‖ of the first over the last weight layer that has any.

    The product, since a layer before a normalization may have weights of any size, to which its gradient is inverse.
    """
    sizes = {
        layer.name: layer.grad_norm * layer.weight_norm
        for layer in layers
        if layer.grad_norm and layer.weight_norm and math.isfinite(layer.grad_norm * layer.weight_norm)
    }
    names = [name for name, size in sizes.items() if size]
    if len(names) < 2:
        return None, None
    return math.log10(sizes[names[0]]) - math.log10(sizes[names[-1]]), (names[0], names[-1])


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
