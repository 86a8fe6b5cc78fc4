"""Half of a batch for each step of a training, another half every time: what a model makes of other samples at every
step is what tells one that learns from one that only fits the samples that it is shown.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradcheck_tool.inputs import Inputs, mapped
from gradcheck_tool.structures import map_tensors, tensors_in

FEWEST = 32
"""Samples of the smallest batch that is halved. Gradients of a few samples are mostly noise: with 16 digits a small
vision transformer shows that it learns after 32 steps, with halves of them after 320 (benchmarks/public_cost.py)."""


class Halves:
    """Draws halves of a batch of which `are_possible`: the same samples from the same seed, in whatever order they lie
    in the batch."""

    def __init__(self, inputs: Inputs, targets: Any, samples: int, seed: int) -> None:
        self.inputs = inputs
        self.targets = targets
        self.samples = samples
        self.generator = torch.Generator().manual_seed(seed)
        self.ranked = torch.argsort(_contents(inputs))

    def draw(self) -> tuple[Inputs, Any]:
        """The next half: its inputs and its targets."""
        drawn = torch.randperm(self.samples, generator=self.generator)[: self.samples // 2]
        rows = self.ranked[drawn].sort().values

        def take(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        return mapped(self.inputs, take), map_tensors(self.targets, take)


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
