"""The figures of a block's activation output: mean, spread, and the shares of its units that are dead or saturated.

A unit is a channel: the last dimension behind a Linear, the one after the batch behind a convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.chains import Call, spatial_dims
from gradcheck_tool.ops import operation_name

_UNBOUNDED = (-math.inf, math.inf)
_BOUNDS = {
    "sigmoid": (0.0, 1.0),
    "expit": (0.0, 1.0),
    "special_expit": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "relu6": (-math.inf, 6.0),
}


@dataclass(frozen=True)
class ActivationFigures:
    """`dead` is None where each unit was seen only once: nothing can be said of it then."""

    mean: float
    std: float
    dead: float | None
    saturated: float


def bounds(node: fx.Node, model: nn.Module) -> tuple[float, float]:
    """(lowest, highest) value between which the output of an activation's node lies, at which its slope is zero.

    A lower bound of zero alone, as ReLU has, is not counted: a unit there is dead, not saturated.
    """
    if node.op == "call_module":
        module: Any = model.get_submodule(str(node.target))
        if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
            return float(module.min_val), float(module.max_val)
        return _BOUNDS.get(type(module).__name__.lower(), _UNBOUNDED)
    name = operation_name(node)
    if name == "hardtanh":
        settings = dict(zip(("min_val", "max_val"), node.args[1:3], strict=False)) | node.kwargs
        low, high = settings.get("min_val", -1.0), settings.get("max_val", 1.0)
        return (
            (float(low), float(high))
            if isinstance(low, (int, float)) and isinstance(high, (int, float))
            else _UNBOUNDED
        )
    return _BOUNDS.get(name, _UNBOUNDED)


def figures(values: Tensor, fed: Tensor | None, channel: int, limits: tuple[float, float]) -> ActivationFigures | None:
    """The figures of an activation's output; None where it is empty or holds no floating-point numbers.

    Args:
        values: the output.
        fed: which of the units had anything but zero go into the activation (`active`). A unit that is fed zeros alone,
            as behind a gain that starts at zero, is not dead. None where that is not known.
        channel: the dimension of `values` that counts the units.
        limits: the bounds of the function.
    """
    if values.numel() == 0 or not values.is_floating_point():
        return None
    wide = values if values.dtype == torch.float64 else values.float()
    silent = ~active(values, channel)
    if fed is not None and fed.shape == silent.shape:
        silent &= fed
    seen_once = values.numel() == values.shape[channel] if values.dim() else True
    return ActivationFigures(
        mean=float(wide.mean(dtype=torch.float64)),
        std=float(wide.std(correction=0)),
        dead=None if seen_once else float(silent.double().mean()),
        saturated=_saturated(values, *limits),
    )


_NOTHING = torch.finfo(torch.float32).tiny
"""What is less is zero in float32, or on some devices as good as that: a unit is no more alive for being computed in
float64, or where subnormal numbers are kept. (float16 has only those below 6e-5, and keeps them everywhere.)"""


def active(values: Tensor, channel: int) -> Tensor:
    """By unit, whether it is anything but zero for any sample."""
    others = [dim for dim in range(values.dim()) if dim != channel % max(1, values.dim())]
    lit = values != 0 if values.dtype == torch.float16 else values.abs() >= _NOTHING
    return lit.any(dim=others) if others else lit


def _saturated(values: Tensor, low: float, high: float) -> float:
    if not math.isfinite(high):
        return 0.0
    margin = 0.01 * (high - low) if math.isfinite(low) else 0.01 * abs(high)
    at_bound = (values <= low + margin) | (values >= high - margin)
    return float(at_bound.double().mean())


def channel_dim(values: Tensor, call: Call, model: nn.Module) -> int:
    """The dimension of an activation's output that counts the units of the weight layer behind it."""
    spatial = spatial_dims(call, model)
    if spatial and values.dim() == len(call.node.meta["shape"]):
        return values.dim() - spatial - 1
    return max(0, values.dim() - 1)
