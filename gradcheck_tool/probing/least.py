"""The least loss that any outputs could have: what the targets leave open, no net can explain."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.structures import map_tensors

_ITERATIONS = 40
"""Of L-BFGS (Liu and Nocedal 1989) with line search, which needs no learning rate and so no scale of the outputs."""
_HISTORY = 5
"""Pairs of vectors, each as large as the outputs, that it remembers."""
LARGEST = 2**22
"""Numbers in the largest output that is tried: what is remembered of it takes up to 200 MB."""


def least_loss(output: Any, loss: Callable[[Any], Tensor]) -> float:
    """The least of `loss` that was found from `output` on, with its floating tensors free to be anything. Where the
    loss takes no other outputs, as beyond the range of probabilities, what was found before; infinite where nothing
    was, or the outputs are too large to try."""
    free: list[Tensor] = []

    def freed(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        free.append(tensor.detach().clone().requires_grad_(True))
        return free[-1]

    outputs = map_tensors(output, freed)
    if not 0 < sum(tensor.numel() for tensor in free) <= LARGEST:
        return math.inf
    optimizer = torch.optim.LBFGS(free, max_iter=_ITERATIONS, history_size=_HISTORY, line_search_fn="strong_wolfe")
    least = math.inf

    def closure() -> Tensor:
        nonlocal least
        optimizer.zero_grad()
        with torch.enable_grad():
            value = loss(outputs)
            value.backward()
        least = min(least, float(value.detach()))
        return value

    with suppress(GradtoolError, RuntimeError):  # a loss of the user's that is not made for this
        optimizer.step(closure)
    return least
