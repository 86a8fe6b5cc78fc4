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
    """Draws halves of a batch of which `are_possible`: from the same seed the same samples, one after the other in the
    same order, wherever they lie in the batch. So a training of many steps is the same to the last digit, and every
    sample meets the same draws of a dropout. With `holds_out`, where the batch is large enough, of those samples alone
    that are not `held_out`, the rows of the others."""

    def __init__(self, inputs: Inputs, targets: Any, ranked: Tensor, seed: int, holds_out: bool = False) -> None:
        """`ranked` are the rows of all samples, as `ranked_rows` gives them."""
        self.inputs = inputs
        self.targets = targets
        self.generator = torch.Generator().manual_seed(seed)
        samples = len(ranked)
        others = held_out_of(samples) if holds_out else 0
        order = torch.randperm(samples, generator=self.generator) if others else torch.arange(samples)
        self.held_out, self.drawn_from = ranked[order[:others]].sort().values, ranked[order[others:]]

    def draw(self) -> tuple[Inputs, Any]:
        """The next half: its inputs and its targets."""
        count = len(self.drawn_from)
        drawn = torch.randperm(count, generator=self.generator)[: count // 2]
        take = rows_taken(self.drawn_from[drawn])
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
    given = inputs.tensors
    wanted = list(tensors_in(targets))
    return (
        samples >= FEWEST
        and bool(wanted)
        and all(t.ndim > 0 and len(t) == samples and t.layout == torch.strided for t in (*given, *wanted))
    )


def ranked_rows(inputs: Inputs) -> Tensor:
    """The rows of the samples, ranked by what is in them, so that their places count for nothing: by its sum, and where
    that is the same, as of the same tokens in another order, by another weighting."""
    first = inputs.tensors[0].detach()
    values = (torch.view_as_real(first) if first.is_complex() else first).cpu().double()
    values = values.flatten(1) if values.ndim > 1 else values[:, None]
    weights = torch.rand(values.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys = [*zip(values.sum(1).tolist(), (values * weights).sum(1).tolist(), strict=True)]
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))
