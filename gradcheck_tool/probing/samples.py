"""What is left of the differences between samples: how far the values of a tensor spread over the batch, and in how
many directions.

A net whose hidden values are all but the same for every sample cannot tell them apart, whatever its gradients are; one
whose last hidden layer has a single direction has a single unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 2**24
"""Values of which a copy in float64 is made at a time: 128 MiB."""


@dataclass(frozen=True)
class SampleFigures:
    """`scale`: the root mean square of the values. `spread`: ‖h − mean over samples‖ / ‖h‖, 1 where the samples have
    nothing in common, 0 where they are all alike; free of the scale of h. In float32 less than 1e-7 is rounding."""

    scale: float
    spread: float


def sample_figures(values: Tensor) -> SampleFigures | None:
    """The figures of `values` (N, …), samples first; None of one sample, of nothing, of zeros, and of what is not
    finite."""
    if values.dim() < 2 or len(values) < 2 or not values.numel() or not values.is_floating_point():
        return None
    total, apart = 0.0, 0.0
    for part in values.detach().flatten(1).split(max(1, _AT_ONCE // len(values)), dim=1):
        wide = part.double()
        total += float(wide.square().sum())
        apart += float((wide - wide.mean(0, keepdim=True)).square().sum())
    ratio = apart / total if total > 0 else float("nan")
    if not 0.0 <= ratio < float("inf"):
        return None
    return SampleFigures(scale=(total / values.numel()) ** 0.5, spread=ratio**0.5)


def effective_rank(values: Tensor) -> float | None:
    """tr(C)² / ‖C‖² of the covariance over samples: the number of directions, of like weight, that would spread so
    (the participation ratio). 1 where all units do the same, at most N − 1.

    Args:
        values: (N, …), samples first. None is returned where there is no spread.
    """
    if values.dim() < 2 or len(values) < 2 or not values.numel() or not values.is_floating_point():
        return None
    rows = values.detach().flatten(1)
    size = rows.abs().amax()
    if not bool(torch.isfinite(size)) or float(size) == 0.0:
        return None
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for part in rows.split(max(1, _AT_ONCE // len(rows)), dim=1):
        wide = part.double() / size.double()
        wide = wide - wide.mean(0, keepdim=True)
        gram += wide @ wide.T
    squares = float(gram.square().sum())
    return float(gram.trace()) ** 2 / squares if squares > 0 else None
