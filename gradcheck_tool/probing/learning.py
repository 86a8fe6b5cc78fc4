"""Whether a model begins to learn its own batch: what its inputs explain of the loss, after a few steps of Adam.

Gradients may be sound in every layer and a net learn nothing for hundreds of steps: where noise drowns the inputs, or
where all that moves is what the outputs have in common. Only steps show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gradcheck_tool.chances import CHECKS, HARM, LITTLE, LITTLE_AFTER
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.probing.backward import Loss, roots_of
from gradcheck_tool.probing.running import run
from gradcheck_tool.results import Learning
from gradcheck_tool.state import preserved
from gradcheck_tool.structures import map_tensors, tensors_in

RATES = (1e-2, 1e-3)
"""The learning rates tried, from fresh weights each: what is too fast for one net is too slow for another. That nets
with small gradients learn all the same shows at the first."""

LARGEST = 2**28
"""Parameters of the largest model that is tried: Adam holds two numbers for each, and a few dozen steps of a larger
model are more than a look before training may cost."""

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
"""Adam's own (Kingma and Ba 2015), the last as a share of the whole gradient's root mean square, so that the scale of
the loss changes no step."""


def learn(
    model: nn.Module,
    inputs: Inputs,
    loss_fn: Loss,
    targets: Any,
    seed: int,
    enough: float,
    steps: int = CHECKS[-1],
    rates: Sequence[float] = RATES,
) -> Learning | None:
    """Trains `model` on its batch from its present weights, at each of the learning `rates`, until its inputs explain
    `enough` of the loss, for up to `steps` steps; then puts it back.

    Returns:
        The share of the loss that the inputs explain, 1 − L(f) / L(f̄), where f̄ gives every sample the mean of the
        outputs over the batch: 0 where telling the samples apart helps nothing, below 0 where it does harm. It is that
        of the check at which it was enough; else of the better rate, the last, or of a rate that was given up the
        largest. None where that is not defined: no outputs per sample, a loss that is not positive, a model too large.

    Raises:
        GradtoolError: the model's forward, or the loss, raises.
    """
    samples = batch_size(inputs)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if samples is None or samples < 2 or sum(parameter.numel() for parameter in parameters) > LARGEST:
        return None
    best, taken, number = -math.inf, 0, 0
    for rate in rates:
        trial = _Trial(model, inputs, loss_fn, targets, seed, samples)
        state = _AdamState()
        seen: list[float] = []
        with preserved(model, values=True):
            for number in range(steps + 1):
                output = trial.forward(number)
                if number in CHECKS:
                    explained = trial.explained(output, number)
                    seen += [] if explained is None else [explained]
                    if seen and seen[-1] >= enough:
                        return Learning(seen[-1], taken + number, number)
                    if number == LITTLE_AFTER and all(-HARM < share < LITTLE for share in seen):
                        break
                if number == steps or not _adam(state, parameters, trial.gradients(output, parameters), rate):
                    break
        taken += number
        if seen:
            best = max(best, seen[-1] if number > LITTLE_AFTER else max(seen))
    return None if best == -math.inf else Learning(best, taken, number)


class _Trial:
    """The passes of one training."""

    def __init__(self, model: nn.Module, inputs: Inputs, loss_fn: Loss, targets: Any, seed: int, samples: int) -> None:
        self.model, self.inputs, self.loss_fn, self.targets = model, inputs, loss_fn, targets
        self.seed, self.samples = seed, samples
        self.noise = [module for module in model.modules() if isinstance(module, _DropoutNd) and module.training]

    def forward(self, number: int) -> Any:
        """What the model returns at step `number`."""
        return run(self.model, self.inputs, self.seed + number)

    def gradients(self, output: Any, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Of the loss; none where it is not finite."""
        with torch.enable_grad():
            loss = self._loss(output)
        if not (loss.requires_grad and math.isfinite(float(loss.detach()))):
            return [None] * len(parameters)
        return torch.autograd.grad(loss, list(parameters), allow_unused=True)

    def explained(self, output: Any, number: int) -> float | None:
        """The share of the loss that the inputs explain; noise of dropout is left out, which explains nothing."""
        if self.noise:
            for module in self.noise:
                module.eval()
            output = self.forward(number)
            for module in self.noise:
                module.train()
        if not any(map(self._is_per_sample, tensors_in(output))):
            return None
        with torch.no_grad():
            loss = float(self._loss(output))
            common = float(self._loss(map_tensors(output, self._averaged)))
        return 1 - loss / common if math.isfinite(loss) and 0 < common < math.inf else None

    def _loss(self, output: Any) -> Tensor:
        return roots_of(output, self.loss_fn, self.targets, self.seed)[0]

    def _is_per_sample(self, tensor: Tensor) -> bool:
        return tensor.is_floating_point() and tensor.dim() > 1 and len(tensor) == self.samples

    def _averaged(self, tensor: Tensor) -> Tensor:
        """The mean over samples in the place of each, where there are samples."""
        return tensor.mean(0, keepdim=True).expand_as(tensor) if self._is_per_sample(tensor) else tensor


class _AdamState:
    """Of each parameter, by its place: the averages of its gradient and of its square, in units of the root mean square
    of the first step's whole gradient, so that no square is too large or too small for its dtype."""

    def __init__(self) -> None:
        self.steps = 0
        self.unit = 1.0
        self.first: dict[int, Tensor] = {}
        self.second: dict[int, Tensor] = {}


def _adam(state: _AdamState, parameters: list[nn.Parameter], grads: Sequence[Tensor | None], rate: float) -> bool:
    """One step in place; False, and none, where there is no gradient or one that is not finite."""
    places = [place for place, grad in enumerate(grads) if grad is not None]
    found = [grad.detach() for grad in grads if grad is not None]
    if not found:
        return False
    total = math.hypot(*map(float, torch._foreach_norm(found, 2, torch.float64)))
    if not 0.0 < total < math.inf:
        return False
    rms = total / math.sqrt(sum(grad.numel() for grad in found))
    state.unit = rms if not state.steps else state.unit
    found = list(torch._foreach_div(found, state.unit))
    state.steps += 1
    for place, grad in zip(places, found, strict=True):
        if place not in state.first:
            state.first[place], state.second[place] = torch.zeros_like(grad), torch.zeros_like(grad)
    first, second = [state.first[place] for place in places], [state.second[place] for place in places]
    torch._foreach_lerp_(first, found, 1 - _BETAS[0])
    torch._foreach_mul_(second, _BETAS[1])
    torch._foreach_addcmul_(second, found, found, 1 - _BETAS[1])
    epsilon = _EPSILON * rms / state.unit
    size = rate * math.sqrt(1 - _BETAS[1] ** state.steps) / (1 - _BETAS[0] ** state.steps)
    spread = torch._foreach_sqrt(second)
    torch._foreach_add_(spread, epsilon)
    with torch.no_grad():
        torch._foreach_addcdiv_([parameters[place] for place in places], first, spread, -size)
    return True
