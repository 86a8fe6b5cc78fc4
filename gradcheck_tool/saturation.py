"""Where an activation's output has its bounds: what a saturated unit is measured against."""

from __future__ import annotations

import math
from typing import Any

from torch import fx, nn

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
        return (float(low), float(high)) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else _UNBOUNDED
    return _BOUNDS.get(name, _UNBOUNDED)
