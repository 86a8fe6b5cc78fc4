"""Adam whose steps do not change with the scale of the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
"""Adam's own (Kingma and Ba 2015), the last in units of the loss at the start, so that no step hangs on what the loss
is multiplied by. Gradients far below that move nothing, as in a training by torch, whose losses are mostly of one."""


class Adam:
    """Steps on `parameters`, in place, at a learning `rate`; `scale` is the loss at the start.

    Of each parameter, by its place: the averages of its gradient and of its square, in units of the root mean square of
    the first step's whole gradient, so that no square is too large or too small for its dtype.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float) -> None:
        self.parameters = parameters
        self.rate = rate
        self.scale = 1.0
        self.steps = 0
        self.unit = 1.0
        self.first: dict[int, Tensor] = {}
        self.second: dict[int, Tensor] = {}

    def step(self, grads: Sequence[Tensor | None]) -> float:
        """One step along `grads`, those of the parameters in their order; none where the whole gradient is zero or not
        finite. Returns its norm."""
        places = [place for place, grad in enumerate(grads) if grad is not None]
        found = [grad.detach() for grad in grads if grad is not None]
        total = math.hypot(*map(float, torch._foreach_norm(found, 2, torch.float64))) if found else 0.0
        if not 0.0 < total < math.inf:
            return total
        if not self.steps:
            self.unit = total / math.sqrt(sum(grad.numel() for grad in found))
        found = list(torch._foreach_div(found, self.unit))
        self.steps += 1
        for place, grad in zip(places, found, strict=True):
            if place not in self.first:
                self.first[place], self.second[place] = torch.zeros_like(grad), torch.zeros_like(grad)
        first, second = [self.first[place] for place in places], [self.second[place] for place in places]
        torch._foreach_lerp_(first, found, 1 - _BETAS[0])
        torch._foreach_mul_(second, _BETAS[1])
        torch._foreach_addcmul_(second, found, found, 1 - _BETAS[1])
        size = self.rate * math.sqrt(1 - _BETAS[1] ** self.steps) / (1 - _BETAS[0] ** self.steps)
        spread = torch._foreach_sqrt(second)
        torch._foreach_add_(spread, _EPSILON * self.scale / self.unit)
        with torch.no_grad():
            torch._foreach_addcdiv_([self.parameters[place] for place in places], first, spread, -size)
        return total
