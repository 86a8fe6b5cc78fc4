"""The passes of a training on one batch: the gradients of a step on half of its samples, and looks at what the inputs
explain of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.probing.backward import Loss, roots_of
from gradcheck_tool.probing.explained import Explained, explained, explained_at_best
from gradcheck_tool.probing.halves import Halves, are_possible, held_out_of, ranked_rows, rows_taken
from gradcheck_tool.probing.least import least_loss
from gradcheck_tool.probing.running import run
from gradcheck_tool.state import preserved
from gradcheck_tool.structures import map_tensors


class Batch:
    """What a model is trained on.

    Attributes:
        samples: how many; 0 where the inputs have no rows in common.
        seen: what was explained of all samples, at the last look.
        output: what the model returned then.
        finite: whether the loss was finite then.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, loss_fn: Loss, targets: Any, seed: int) -> None:
        self.model, self.inputs, self.loss_fn, self.targets = model, inputs, loss_fn, targets
        self.seed, self.samples = seed, batch_size(inputs) or 0
        self.seen: Explained | None = None
        self.output: Any = None
        self.finite = True
        self.least: float | None = None
        self.halved = are_possible(inputs, targets, self.samples)
        self.noise = noise_of(model)

    @property
    def can_hold_out(self) -> bool:
        """Whether some samples can be held out of a training."""
        return self.halved and held_out_of(self.samples) > 0

    def halves(self, holds_out: bool) -> Halves | None:
        """Halves of the batch, the same ones for every training; None where it is not to be halved."""
        return Halves(self.inputs, self.targets, self._ranked, self.seed, holds_out) if self.halved else None

    @cached_property
    def _ranked(self) -> Tensor:
        return ranked_rows(self.inputs)

    def gradients(
        self, parameters: Sequence[Tensor], number: int, halves: Halves | None
    ) -> tuple[float, Sequence[Tensor | None]]:
        """The loss of step `number` and its gradients; none where it is not finite.

        Raises:
            GradtoolError: the model's forward, or the loss, raises.
        """
        with torch.enable_grad():
            loss = self._loss_of_half(number, halves) if halves is not None and self.halved else None
            if loss is None:
                loss = self._loss(run(self.model, self.inputs, self.seed + number), self.targets)
        value = float(loss.detach())
        if not (loss.requires_grad and math.isfinite(value)):
            return value, [None] * len(parameters)
        wanted = [one for one in parameters if one.requires_grad]  # a forward may freeze some
        grads = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        return value, [next(grads) if one.requires_grad else None for one in parameters]

    def _loss_of_half(self, number: int, halves: Halves) -> Tensor | None:
        """None, from then on, where the model or the loss takes no other number of samples than the batch has."""
        inputs, targets = halves.draw()
        try:
            return self._loss(run(self.model, inputs, self.seed + number), targets)
        except GradtoolError:
            self.halved = False
            return None

    def look(self, number: int, halves: Halves | None, at_best: bool) -> Explained | None:
        """What the inputs explain of the loss of all samples, at the best scale of the outputs too where `at_best`; or,
        where `halves` hold some out, of these, at that scale. Noise of dropout is left out, which explains nothing.

        Raises:
            GradtoolError: as `gradients`.
        """
        for module in self.noise:
            module.eval()
        output = run(self.model, self.inputs, self.seed + number)
        for module in self.noise:
            module.train()
        self.output = output = map_tensors(output, torch.detach)
        if halves is None or not self.halved or not len(halves.held_out):
            seen = self.seen = self._of_all(output, at_best)
        else:
            seen = self._of_held_out(output, rows_taken(halves.held_out), len(halves.held_out))
        self.finite = seen is not None or math.isfinite(float(self._loss(output, self.targets)))
        return seen

    def _of_held_out(self, output: Any, take: Callable[[Tensor], Tensor], count: int) -> Explained | None:
        targets = map_tensors(self.targets, take)
        of_these = map_tensors(output, lambda tensor: take(tensor) if self._has_rows(tensor) else tensor)
        return explained_at_best(of_these, lambda given: self._loss(given, targets), count)

    def _of_all(self, output: Any, at_best: bool) -> Explained | None:
        def loss(given: Any) -> Tensor:
            return self._loss(given, self.targets)

        found = [explained(output, loss, self.samples)]
        if at_best:
            found.append(explained_at_best(output, loss, self.samples))
        return max((one for one in found if one is not None), key=lambda one: one.share, default=None)

    def explicable(self) -> float:
        """The share of the loss, at the last look, that any outputs at all could explain: 1 where some have no loss,
        less where the targets leave something open, as soft labels do with cross-entropy."""
        if self.seen is None:
            return 1.0
        if self.least is None:
            with preserved(self.model, values=True):
                output = run(self.model, self.inputs, self.seed)
            self.least = least_loss(output, lambda given: self._loss(given, self.targets))
        loss, common = self.seen.loss, self.seen.common
        return 1 - self.least / common if 0.0 < self.least < loss < common else 1.0

    def _loss(self, output: Any, targets: Any) -> Tensor:
        return roots_of(output, self.loss_fn, targets, self.seed)[0]

    def _has_rows(self, tensor: Tensor) -> bool:
        return tensor.dim() > 0 and len(tensor) == self.samples


def noise_of(model: nn.Module) -> list[nn.Module]:
    """The dropout modules of `model` that are at work."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.training and module.p]
