"""A few optimizer steps on the probe's own batch: a start that looks healthy may break at once, and a gradient that is
empty beneath a head of zeros fills.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.inputs import Inputs
from gradcheck_tool.probing.backward import Loss, Signs, grad_norms, roots_of
from gradcheck_tool.probing.magnitudes import pieces
from gradcheck_tool.probing.running import run

STEP_SIZE = 1e-3
"""What one step changes a weight by at most: the learning rate that Adam has by default (Kingma and Ba 2015), whose
first step is this in the direction of the gradient's sign."""

_EPSILON = 1e-8
"""Adam's, but of the root mean square of the whole gradient, so that the scale of the loss changes no step. A
tensor whose gradient is far below that of others is moved less, as under Adam, and not at all where it is lost beneath
this."""


def step(
    model: nn.Module,
    inputs: Inputs,
    loss_fn: Loss | None,
    targets: Any,
    seed: int,
    steps: int,
    first: Signs | None = None,
) -> int:
    """Takes up to `steps` steps of gradient-sign descent in place; use inside `preserved`. Returns how many were taken:
    it ends where there is no gradient, or one that is not finite.

    Memory: one byte a parameter, besides the largest gradient.

    Args:
        first: the gradient of the first step, where it was taken already; emptied.

    Raises:
        GradtoolError: the model's forward, or the loss, raises.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in parameters)
    for taken in range(steps):
        found = first if first is not None else _signs(model, inputs, loss_fn, targets, seed + taken, parameters)
        first = None
        total = math.hypot(*(size for size, _ in found.values())) if found else 0.0
        if not 0.0 < total < math.inf:
            return taken
        epsilon = _EPSILON * total / math.sqrt(count)
        with torch.no_grad():
            for parameter in parameters:
                if id(parameter) in found:
                    size, sign = found[id(parameter)]
                    size /= math.sqrt(parameter.numel())
                    _add(parameter, sign, -STEP_SIZE * size / (size + epsilon))
        found.clear()  # whoever holds it: the next step's need the room
    return steps


def _add(parameter: Tensor, sign: Tensor, amount: float) -> None:
    if sign.layout != torch.strided or parameter.layout != torch.strided:
        parameter.add_(sign.to(parameter.dtype), alpha=amount)
        return
    for part, signs in zip(pieces(parameter), pieces(sign), strict=True):
        part.add_(signs.to(parameter.dtype), alpha=amount)


def _signs(
    model: nn.Module, inputs: Inputs, loss_fn: Loss | None, targets: Any, seed: int, parameters: list[nn.Parameter]
) -> Signs:
    found: Signs = {}
    output = run(model, inputs, seed)
    with torch.enable_grad():
        roots = roots_of(output, loss_fn, targets, seed)
    if any(root.requires_grad for root in roots):
        grad_norms(roots, [parameter for parameter in parameters if parameter.requires_grad], found)
    return found
