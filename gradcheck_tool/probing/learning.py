"""Whether a model learns its own batch: what its inputs explain of the loss, after some steps of Adam on halves of it.

Gradients may be sound in every layer and a net learn nothing for hundreds of steps: where noise drowns the inputs, or
where all that moves is what the outputs have in common. Only steps show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from torch import nn

from gradcheck_tool.chances import CHECKS, EARLY, HARM, LITTLE, LITTLE_AFTER, SOON, SOUND, Chance
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.probing.adam import Adam
from gradcheck_tool.probing.backward import Loss
from gradcheck_tool.probing.halves import Halves
from gradcheck_tool.probing.lessons import Batch
from gradcheck_tool.probing.reference import reference_for
from gradcheck_tool.results import Divergence, Learning
from gradcheck_tool.state import preserved

RATES = (1e-2, 1e-3)
"""The learning rates tried, from fresh weights each: what is too fast for one net is too slow for another."""

LARGEST = 2**28
"""Parameters of the largest model that is tried: Adam holds two numbers for each, and a few dozen steps of a larger
model are more than a look before training may cost."""


class Training:
    """A model's trainings on its batch, at each of the `RATES`, from its present weights always: after each it is put
    back. Every step sees half of the samples, where the batch can be halved. Where the loss has ceased to be finite at
    one rate, what comes at another has to last.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, loss_fn: Loss, targets: Any, seed: int) -> None:
        self.model = model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.batch = Batch(model, inputs, loss_fn, targets, seed)
        self.begun = False
        self.taken = 0
        self.soon: list[float] = []
        self.diverged: Divergence | None = None
        self.defined = self.batch.samples >= 2 and sum(p.numel() for p in self.parameters) <= LARGEST

    def begin(self) -> Learning | None:
        """What looks sound mostly begins to learn at once at one of the rates: each is tried for a moment, before
        either is for long. None where it does not.

        Raises:
            GradtoolError: the model's forward, or the loss, raises.
        """
        self.begun = True
        for rate in RATES:
            trial = self._try(rate, EARLY, SOUND)
            if trial.end is _End.ENOUGH:
                return self._seen(trial, trial.explained, learns=True)
            if self.diverged is not None:
                break
        return None

    def last(self, given: Chance) -> Learning | None:
        """Trains until the inputs explain enough of the loss, at each rate as long as the chance `given` lasts.

        Returns:
            The share of the loss that the inputs explain: 0 where telling the samples apart helps nothing, below 0
            where it does harm. It is that of the check at which it was enough, else the larger of the last of both
            rates; this of what any outputs could explain. None where that is not defined: no outputs per sample, a loss
            that is not positive, a model too large.

        Raises:
            GradtoolError: the model's forward, or the loss, raises.
        """
        begins = self.begin() if given.patient and not self.begun else None
        if begins is not None:
            return begins
        found = self._at_each_rate(given)
        if found is None or found.learns or given.then is None or not self.batch.can_hold_out:
            return found
        other = self._at_each_rate(given.then)
        return other if other is not None and other.learns else replace(found, steps=self.taken)

    def _at_each_rate(self, given: Chance) -> Learning | None:
        best, trial = -math.inf, None
        for rate in RATES:
            trial = self._try(rate, given.steps, given)
            if trial.end is _End.ENOUGH:
                return self._seen(trial, trial.explained, learns=True)
            if trial.shares:
                share = trial.explained
                if given.patient and 0.0 < share < given.enough and self.diverged is None:
                    share /= self.batch.explicable()
                best = max(best, share)
        if trial is None or not self.defined or (best == -math.inf and self.diverged is None):
            return None
        if given.begun is None or self.diverged is not None or best < given.begun:
            return self._seen(trial, best, learns=False)
        linear = self._of_a_linear_model(given) if best < given.enough else None
        demanded = given.begun if linear is None else max(given.begun, min(given.enough, linear / 2))
        return replace(self._seen(trial, best, learns=best >= demanded), linear=linear)

    def _of_a_linear_model(self, given: Chance) -> float | None:
        """What a linear model explains of the same batch in as many steps; it need not explain more than twice as much
        as is enough. None where there is none."""
        batch = self.batch
        made = reference_for(batch.inputs, batch.output, batch.targets, batch.seed)
        if made is None:
            return None
        twice = 2 * given.enough
        reference = Training(*made, batch.loss_fn, batch.targets, batch.seed)
        try:
            seen = reference.last(replace(given, enough=twice, early=twice, begun=None, patient=False))
        except GradtoolError:  # a loss that takes the model's own outputs alone
            return None
        return None if seen is None else seen.explained

    def _seen(self, last: Trial, explained: float, learns: bool) -> Learning:
        held_out = last.given.holds_out
        return Learning(
            explained,
            learns,
            self.taken,
            last.steps,
            held_out,
            diverged=self.diverged,
            soon=max(self.soon, default=None),
        )

    def _try(self, rate: float, steps: int, given: Chance) -> Trial:
        """One training; the model is put back."""
        trial = Trial(self.batch, given, lasting=self.diverged is not None)
        if not self.defined:
            return trial
        with preserved(self.model, values=True):
            trial.run(Adam(self.parameters, rate), steps)
        self.taken += trial.steps
        self.soon += [share for steps, share in trial.shares.items() if steps <= SOON]
        if trial.end is _End.DIVERGED:
            self.diverged = Divergence(rate, trial.steps)
        elif not trial.shares:
            self.defined = False
        return trial


class _End(Enum):
    """Why a training ended. Where a half is learned to the last digit, and has no gradient, it goes on with others."""

    ENOUGH = auto()
    SPENT = auto()
    DIVERGED = auto()


@dataclass
class Trial:
    """A training at one rate: how many steps were taken, and what the inputs explained at the checks, by their
    steps. `lasting`: what is enough has to be so after the last step."""

    batch: Batch
    given: Chance
    lasting: bool
    end: _End = _End.SPENT
    steps: int = 0
    shares: dict[int, float] = field(default_factory=dict)

    @property
    def explained(self) -> float:
        """At the last check."""
        return [*self.shares.values()][-1]

    def run(self, adam: Adam, steps: int) -> None:
        """Trains in place."""
        halves = self.batch.halves(self.given.holds_out)
        while True:
            if self.steps in CHECKS:
                if self._look(halves):
                    self.end = _End.ENOUGH
                    return
                if not self.batch.finite:
                    self.end = _End.DIVERGED
                    return
                little = all(-HARM < share < LITTLE for share in self.shares.values())
                if self.steps == LITTLE_AFTER and little and not self.given.patient:
                    return
            if self.steps == steps:
                return
            loss, grads = self.batch.gradients(adam.parameters, self.steps, halves)
            if self.steps >= CHECKS[0] and not self.shares and math.isfinite(loss):
                return  # the share is not defined for such a loss, or such outputs
            if not self.steps:
                adam.scale = abs(loss)
            if not (math.isfinite(loss) and adam.step(grads) < math.inf):
                self.end = _End.DIVERGED if self.steps else _End.SPENT
                return
            self.steps += 1

    def _look(self, halves: Halves | None) -> bool:
        """Whether what the inputs explain now is enough."""
        at_end = self.given.patient and self.steps == self.given.steps
        seen = self.batch.look(self.steps, halves, at_best=at_end)
        if seen is None:
            return False
        self.shares[self.steps] = seen.share
        if self.lasting:
            return self.steps == self.given.steps and seen.share >= self.given.enough
        return seen.share >= (self.given.early if self.steps <= EARLY else self.given.enough)
