"""What the forward pass knows of a value: its second moment, and how much of that two samples share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradcheck_tool.theory.gaussian import Activation, Array
from gradcheck_tool.theory.spatial import Axes, Size, spread

SAMPLES = 64  # members of the ensemble of q in dense layers; their noise is centred, so that to first order it cancels


class NoPredictionError(Exception):
    """The net leaves the ground on which the theory stands; the message is the reason, for people."""


@dataclass(frozen=True)
class Origin:
    """A value that is `factor` · φ(z) of the value z with these moments, `log_slope` being log E[φ'(z)²]."""

    activation: Activation
    before: Moments
    factor: float
    log_slope: Array


@dataclass(frozen=True)
class Moments:
    """A value, elementwise; its channels are all alike.

    `log_q` is the log of the second moment: of a map of the grid of `size`, or where that is () of an ensemble, one a
    sample. `log_delta` is log(1 − p/q), p being the covariance between two samples (or two positions) in one channel.
    `mean` is the mean over channels over √q: what activations leave and weights take away. The kurtoses are those of
    the last activation's derivatives and outputs. `normalized`: how many values batch norm has just normalized at a
    time. `sources` are the weight layers, as bits, of whose outputs it is an elementwise function or a sum.
    """

    log_q: Array
    size: Size = ()
    log_delta: float = 0.0
    mean: float = 0.0
    slope_kurtosis: float = 1.0
    kurtosis: float = 3.0
    normalized: int | None = None
    origin: Origin | None = None
    sources: int = 0

    @cached_property
    def log_level(self) -> float:
        """log q, averaged over positions."""
        return float(log_mean(self.log_q))

    def changed(self, log_q: Array, **others: object) -> Moments:
        """Other moments after an op that is no plain activation: what is remembered of the last one is dropped."""
        kept = {"normalized": None, "origin": None, "slope_kurtosis": 1.0} | others
        return replace(self, log_q=log_q, **kept)  # type: ignore[arg-type]


def inputs(log_q0: float = 0.0, source: int = 0) -> Moments:
    """A batch of independent inputs of second moment exp(`log_q0`)."""
    return Moments(np.full(SAMPLES, log_q0), sources=source)


def log_mean(log_field: Array) -> Array:
    """The log of the mean."""
    peak = log_field.max()
    if log_field.ndim == 0 or not math.isfinite(peak):
        return np.asarray(peak)
    return np.asarray(peak + math.log(float(np.exp(log_field - peak).sum()) / log_field.size))


def log_spread(axes: Axes, log_field: Array) -> Array:
    """`spatial.spread` in the log domain."""
    peak = float(log_field.max())
    if not math.isfinite(peak):
        return np.full(tuple(matrix.shape[0] for matrix in axes), -np.inf)
    with np.errstate(divide="ignore"):
        result: Array = np.log(spread(axes, np.exp(log_field - peak))) + peak
    return result


def log_less(log_a: float, log_b: float) -> float:
    """log(a − b); -inf where b is not less than a."""
    return log_a + math.log(-math.expm1(log_b - log_a)) if log_b < log_a else -math.inf
