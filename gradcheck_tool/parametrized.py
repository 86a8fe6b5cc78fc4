"""What a module computes from other tensors where others have a parameter: weight norm, spectral norm, a
parametrization of the user's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from gradcheck_tool.state import in_mode, random_states


def is_computed(module: nn.Module) -> bool:
    """Whether the weight or another parameter of a module is computed from other tensors."""
    return parametrize.is_parametrized(module) or any(hasattr(module, f"weight_{end}") for end in ("g", "orig", "v"))


def still(module: nn.Module, name: str = "weight") -> Any:
    """The attribute `name` of a module, None where it has none. One that is computed is computed without a gradient, in
    evaluation: spectral norm takes a step of its power iteration whenever it is read while training."""
    if not parametrize.is_parametrized(module, name):
        return getattr(module, name, None)
    steps: Any = module.parametrizations
    with in_mode(steps, False, whole=True), random_states(), torch.no_grad():
        return getattr(module, name)
