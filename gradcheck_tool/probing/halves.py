"""Half of a batch for each step of a training, another half every time: what a model makes of other samples at every
step is what tells one that learns from one that only fits the samples that it is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradcheck_tool.inputs import Inputs, mapped
from gradcheck_tool.structures import map_tensors, tensors_in

FEWEST = 32
"""Samples of the smallest batch that is halved. Gradients of a few samples are mostly noise: with 16 digits a small
vision transformer shows that it learns after 32 steps, with halves of them after 320 (benchmarks/public_cost.py)."""

SHARE_HELD_OUT, FEWEST_HELD_OUT = 3 / 8, 24
"""The share of a batch that is held out, and of how many samples at least: with fewer what a model makes of them is
chance. Of the nets of benchmarks/trainability.py that explode, with 24 of 64 samples held out in four ways, 2.5 of 49
are judged wrongly on average, and of 16 in eight ways 3.0, at the threshold that suits each best."""


class Halves:
    """Draws halves of a batch of which `are_possible`: the same samples from the same seed, in whatever order they lie
    in the batch. With `holds_out`, where the batch is large enough, of those samples alone that are not `held_out`, the
    rows of the others."""

    def __init__(self, inputs: Inputs, targets: Any, samples: int, seed: int, holds_out: bool = False) -> None:
        self.inputs = inputs
        self.targets = targets
        self.generator = torch.Generator().manual_seed(seed)
        ranked = torch.argsort(_contents(inputs))
        others = held_out_of(samples) if holds_out else 0
        order = torch.randperm(samples, generator=self.generator) if others else torch.arange(samples)
        self.held_out, self.drawn_from = ranked[order[:others]].sort().values, ranked[order[others:]]

    def draw(self) -> tuple[Inputs, Any]:
        """The next half: its inputs and its targets."""
        count = len(self.drawn_from)
        drawn = torch.randperm(count, generator=self.generator)[: count // 2]
        take = rows_taken(self.drawn_from[drawn].sort().values)
        return mapped(self.inputs, take), map_tensors(self.targets, take)


def held_out_of(samples: int) -> int:
    """How many of so many samples are held out."""
    count = int(SHARE_HELD_OUT * samples)
    return count if count >= FEWEST_HELD_OUT else 0


def rows_taken(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """What takes these `rows` of a tensor, wherever it lies."""
    return lambda tensor: tensor[rows.to(tensor.device)]


def are_possible(inputs: Inputs, targets: Any, samples: int) -> bool:
    """Whether every tensor of inputs and targets has a row for each sample, so that a half of them makes sense."""
    given = list(tensors_in((inputs.args, dict(inputs.kwargs))))
    wanted = list(tensors_in(targets))
    return (
        samples >= FEWEST
        and bool(wanted)
        and all(t.ndim > 0 and len(t) == samples and t.layout == torch.strided for t in (*given, *wanted))
    )


def _contents(inputs: Inputs) -> Tensor:
    """A number for each sample that does not change with its place."""
    first = next(tensors_in((inputs.args, dict(inputs.kwargs)))).detach()
    values = torch.view_as_real(first) if first.is_complex() else first
    return values.flatten(1).double().sum(1).cpu() if values.ndim > 1 else values.double().cpu()
