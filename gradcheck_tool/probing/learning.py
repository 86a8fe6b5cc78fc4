"""Whether a model learns its own batch: what its inputs explain of the loss, after some steps of Adam on halves of it.

Gradients may be sound in every layer and a net learn nothing for hundreds of steps: where noise drowns the inputs, or
where all that moves is what the outputs have in common. Only steps show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gradcheck_tool.chances import CHECKS, EARLY, HARM, LITTLE, LITTLE_AFTER, Chance
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.probing.adam import Adam
from gradcheck_tool.probing.backward import Loss, roots_of
from gradcheck_tool.probing.halves import Halves, are_possible
from gradcheck_tool.probing.least import least_loss
from gradcheck_tool.probing.running import run
from gradcheck_tool.results import Divergence, Learning
from gradcheck_tool.state import preserved
from gradcheck_tool.structures import map_tensors, tensors_in

RATES = (1e-2, 1e-3)
"""The learning rates tried, from fresh weights each: what is too fast for one net is too slow for another."""

LARGEST = 2**28
"""Parameters of the largest model that is tried: Adam holds two numbers for each, and a few dozen steps of a larger
model are more than a look before training may cost."""


def learn(model: nn.Module, inputs: Inputs, loss_fn: Loss, targets: Any, seed: int, given: Chance) -> Learning | None:
    """Trains `model` on its batch from its present weights, at each of the `RATES`, until its inputs explain enough of
    the loss, as long as the chance `given` lasts; then puts it back. Every step sees half of the samples, where the
    batch can be halved. Where the loss has ceased to be finite at one rate, what comes at another has to last.

    Returns:
        The share of the loss that the inputs explain, over the whole batch, 1 − L(f) / L(f̄), where f̄ gives every
        sample the mean of the outputs, or zeros where these do better: 0 where telling the samples apart helps
        nothing, below 0 where it does harm. It is that of the check at which it was enough, else the larger of the
        last of both rates; this of what any outputs could explain. None where that is not defined: no outputs per
        sample, a loss that is not positive, a model too large.

    Raises:
        GradtoolError: the model's forward, or the loss, raises.
    """
    samples = batch_size(inputs)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if samples is None or samples < 2 or sum(parameter.numel() for parameter in parameters) > LARGEST:
        return None
    batch = _Batch(model, inputs, loss_fn, targets, seed, samples)
    best, taken, last = -math.inf, 0, 0
    diverged: Divergence | None = None
    for rate, steps in _schedule(given):
        with preserved(model, values=True):
            trial = _train(batch, Adam(parameters, rate), steps, given, lasting=diverged is not None)
        taken, last = taken + trial.steps, trial.steps
        if trial.end is _End.ENOUGH:
            return Learning(trial.seen[-1], True, taken, last, diverged=diverged)
        if trial.end is _End.DIVERGED:
            diverged = Divergence(rate, trial.steps)
        elif not trial.seen:
            return None
        if trial.seen and steps == given.steps:
            share = trial.seen[-1]
            if given.patient and 0.0 < share < given.enough and diverged is None:
                share /= batch.explicable()
            best = max(best, share)
    if best == -math.inf and diverged is None:
        return None
    return Learning(best, best >= given.enough and diverged is None, taken, last, diverged=diverged)


def _schedule(given: Chance) -> Iterator[tuple[float, int]]:
    """The trainings: rates and steps. What looks sound mostly begins at once at one of the rates, so that both are
    tried for a moment before either is for long."""
    if given.patient:
        yield from ((rate, EARLY) for rate in RATES)
    yield from ((rate, given.steps) for rate in RATES)


class _End(Enum):
    """Why a training ended. Where a half is learned to the last digit, and has no gradient, it goes on with others."""

    ENOUGH = auto()
    SPENT = auto()
    DIVERGED = auto()


@dataclass
class _Trial:
    """A training at one rate: what the inputs explained at the checks, and how many steps were taken."""

    end: _End = _End.SPENT
    steps: int = 0
    seen: list[float] = field(default_factory=list)


def _train(batch: _Batch, adam: Adam, steps: int, given: Chance, lasting: bool) -> _Trial:
    """Trains in place. `lasting`: what is enough has to be so after the last step."""
    trial = _Trial()
    halves = batch.halves()
    while True:
        if trial.steps in CHECKS:
            explained = batch.explained(trial.steps)
            trial.seen += [] if explained is None else [explained]
            if explained is not None and explained >= _enough(trial.steps, given, lasting):
                trial.end = _End.ENOUGH
                return trial
            little = all(-HARM < share < LITTLE for share in trial.seen)
            if trial.steps == LITTLE_AFTER and little and not given.patient:
                return trial
        if trial.steps == steps:
            return trial
        loss, grads = batch.gradients(adam.parameters, trial.steps, halves)
        if trial.steps >= CHECKS[0] and not trial.seen and math.isfinite(loss):
            return trial  # the share is not defined for such a loss, or such outputs
        if not trial.steps:
            adam.scale = abs(loss)
        if not (math.isfinite(loss) and adam.step(grads) < math.inf):
            trial.end = _End.DIVERGED if trial.steps else _End.SPENT
            return trial
        trial.steps += 1


def _enough(steps: int, given: Chance, lasting: bool) -> float:
    """What the inputs have to explain after so many steps."""
    if lasting:
        return given.enough if steps == given.steps else math.inf
    return given.early if steps <= EARLY else given.enough


class _Batch:
    """The passes of a training on one batch."""

    def __init__(self, model: nn.Module, inputs: Inputs, loss_fn: Loss, targets: Any, seed: int, samples: int) -> None:
        self.model, self.inputs, self.loss_fn, self.targets = model, inputs, loss_fn, targets
        self.seed, self.samples = seed, samples
        self.loss = self.common = math.nan  # of the last look
        self.least: float | None = None
        self.halved = are_possible(inputs, targets, samples)
        self.noise = noise_of(model)

    def halves(self) -> Halves | None:
        """Halves of the batch, the same ones for every training; None where it is not to be halved."""
        return Halves(self.inputs, self.targets, self.samples, self.seed) if self.halved else None

    def gradients(
        self, parameters: Sequence[Tensor], number: int, halves: Halves | None
    ) -> tuple[float, Sequence[Tensor | None]]:
        """The loss of step `number` and its gradients; none where it is not finite."""
        with torch.enable_grad():
            loss = self._loss_of_half(number, halves) if halves is not None and self.halved else None
            if loss is None:
                loss = self._loss(run(self.model, self.inputs, self.seed + number), self.targets)
        value = float(loss.detach())
        if not (loss.requires_grad and math.isfinite(value)):
            return value, [None] * len(parameters)
        return value, torch.autograd.grad(loss, list(parameters), allow_unused=True)

    def _loss_of_half(self, number: int, halves: Halves) -> Tensor | None:
        """None, from then on, where the model or the loss takes no other number of samples than the batch has."""
        inputs, targets = halves.draw()
        try:
            return self._loss(run(self.model, inputs, self.seed + number), targets)
        except GradtoolError:
            self.halved = False
            return None

    def explained(self, number: int) -> float | None:
        """The share of the loss that the inputs explain; noise of dropout is left out, which explains nothing."""
        for module in self.noise:
            module.eval()
        output = run(self.model, self.inputs, self.seed + number)
        for module in self.noise:
            module.train()
        if not any(map(self._is_per_sample, tensors_in(output))):
            return None
        with torch.no_grad():
            loss, common = (
                float(self._loss(given, self.targets)) for given in (output, map_tensors(output, self._averaged))
            )
            if loss < common < math.inf:
                common = min(common, self._of_zeros(output))
        self.loss, self.common = loss, common
        return 1 - loss / common if math.isfinite(loss) and 0 < common < math.inf else None

    def _of_zeros(self, output: Any) -> float:
        """The loss of outputs of zero; infinite where it tells nothing: a loss for which zeros are perfect, as the
        logarithms of probabilities, or which cannot take them."""
        try:
            loss = float(self._loss(map_tensors(output, self._zeroed), self.targets))
        except GradtoolError:
            return math.inf
        return loss if 0.0 < loss < math.inf else math.inf

    def explicable(self) -> float:
        """The share of the loss, at the last look, that any outputs at all could explain: 1 where some have no loss,
        less where the targets leave something open, as soft labels do with cross-entropy."""
        if self.least is None:
            with preserved(self.model, values=True):
                output = run(self.model, self.inputs, self.seed)
            self.least = least_loss(output, lambda given: self._loss(given, self.targets))
        return 1 - self.least / self.common if 0.0 < self.least < self.loss < self.common else 1.0

    def _loss(self, output: Any, targets: Any) -> Tensor:
        return roots_of(output, self.loss_fn, targets, self.seed)[0]

    def _is_per_sample(self, tensor: Tensor) -> bool:
        return tensor.is_floating_point() and tensor.dim() > 1 and len(tensor) == self.samples

    def _averaged(self, tensor: Tensor) -> Tensor:
        """The mean over samples in the place of each, where there are samples."""
        return tensor.mean(0, keepdim=True).expand_as(tensor) if self._is_per_sample(tensor) else tensor

    def _zeroed(self, tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor) if self._is_per_sample(tensor) else tensor


def noise_of(model: nn.Module) -> list[nn.Module]:
    """The dropout modules of `model` that are at work."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.training and module.p]
