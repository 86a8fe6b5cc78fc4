"""What the inputs explain of a loss: how much better the outputs do than what they have in common for all samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.structures import map_tensors, tensors_in

LossOf = Callable[[Any], Tensor]
"""The loss of an output, with the targets that belong to it."""

_OCTAVES = 140.0
"""Scales down to 2⁻¹⁴⁰ are tried, which bring whatever float32 holds below 1."""
_NEARLY, _ALIKE = 0.3, 1e-6
"""The best scale is sought to so many octaves; losses that differ by no more than so much of them are alike."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Explained:
    """The `loss` of some outputs, and the least that is reached without telling the samples apart: by the mean of the
    outputs for every sample, or by zeros."""

    loss: float
    common: float

    @property
    def share(self) -> float:
        """1 − loss / common: 0 where telling the samples apart helps nothing, below 0 where it does harm."""
        return 1 - self.loss / self.common


def explained(output: Any, loss: LossOf, samples: int) -> Explained | None:
    """What `output`, of so many `samples`, explains of `loss`; None where that is not defined: where there are no
    outputs per sample, or the loss is not positive."""
    per_sample = _PerSample(samples)
    if not any(map(per_sample, tensors_in(output))):
        return None
    found, common = (_value(loss, given) for given in (output, map_tensors(output, per_sample.averaged)))
    if found < common < math.inf:
        common = min(common, _of_zeros(output, loss, per_sample))
    return Explained(found, common) if math.isfinite(found) and 0 < common < math.inf else None


def explained_at_best(output: Any, loss: LossOf, samples: int) -> Explained | None:
    """The same of outputs, and of their mean, that are made smaller by one factor, the best: where they are far too
    large, their loss says little of what they tell."""
    per_sample = _PerSample(samples)
    if not any(map(per_sample, tensors_in(output))):
        return None
    zeros = _of_zeros(output, loss, per_sample)
    if zeros == math.inf:
        return explained(output, loss, samples)
    mean = map_tensors(output, per_sample.averaged)
    found, common = (
        min(zeros, _least(lambda scale, of=of: _value(loss, map_tensors(of, per_sample.times(scale)))))  # type: ignore[misc]
        for of in (output, mean)
    )
    return Explained(found, common)


def _least(loss: Callable[[float], float]) -> float:
    """The least of `loss(scale)` over scales up to 1, by golden sections of their logarithm: a loss that is convex in
    the outputs has one valley along their scale."""
    low, high = -_OCTAVES, 0.0
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    of_left, of_right = loss(2.0**left), loss(2.0**right)
    least = min(loss(1.0), of_left, of_right)
    while high - low > _NEARLY:
        if of_right == math.inf or of_left < of_right * (1 - _ALIKE):
            high, right, of_right = right, left, of_left
            left = high - _GOLDEN * (high - low)
            of_left = loss(2.0**left)
        else:  # far below the valley all scales are alike
            low, left, of_left = left, right, of_right
            right = low + _GOLDEN * (high - low)
            of_right = loss(2.0**right)
        least = min(least, of_left, of_right)
    return least


def _value(loss: LossOf, output: Any) -> float:
    """Infinite where it is no number."""
    with torch.no_grad():
        value = float(loss(output))
    return math.inf if math.isnan(value) else value


def _of_zeros(output: Any, loss: LossOf, per_sample: _PerSample) -> float:
    """The loss of outputs of zero; infinite where it tells nothing: a loss for which zeros are perfect, as the
    logarithms of probabilities, or which cannot take them."""
    try:
        found = _value(loss, map_tensors(output, per_sample.times(0.0)))
    except GradtoolError:
        return math.inf
    return found if found > 0.0 else math.inf


@dataclass(frozen=True)
class _PerSample:
    """Which tensors of an output have a row for each of the samples, and what becomes of these."""

    samples: int

    def __call__(self, tensor: Tensor) -> bool:
        return tensor.is_floating_point() and tensor.dim() > 0 and len(tensor) == self.samples

    def averaged(self, tensor: Tensor) -> Tensor:
        """The mean over samples in the place of each."""
        return tensor.mean(0, keepdim=True).expand_as(tensor) if self(tensor) else tensor

    def times(self, scale: float) -> Callable[[Tensor], Tensor]:
        """Every output, times `scale`; zeros where that is zero."""

        def change(tensor: Tensor) -> Tensor:
            if not self(tensor):
                return tensor
            return tensor * scale if scale else torch.zeros_like(tensor)

        return change
