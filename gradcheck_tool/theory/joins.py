"""Pooling, upsampling, and the steps with several inputs: moments in, moments and gains out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from gradcheck_tool.theory.forward import Gain, resized
from gradcheck_tool.theory.gaussian import Activation, Array, log_sum_exp, value_and_slope
from gradcheck_tool.theory.moments import Moments, NoPredictionError, log_mean, log_spread
from gradcheck_tool.theory.spatial import Axes, grid_of, resampling, taps
from gradcheck_tool.theory.steps import Add, Concat, Pool, Upsample

_IDENTITY = Activation("identity", lambda x: 1.0 * x)


def through_pool(step: Pool, before: Moments) -> tuple[Moments, Gain]:
    """Pooling over n positions. The average keeps what the positions share and divides what they do not by n; its
    gradient is n times 1/n². The maximum sends all of the gradient to one position, whose slope is that of a maximum.
    """
    size, axes, grid = _windows(step, before)
    log_q = log_spread(axes, before.log_q) if axes else np.full(grid, before.log_level)
    arrives = None if axes else before.log_q.shape
    n = step.values
    if step.kind == "maximum":
        return _maximum(step, before, log_q, size, Gain(np.array(0.0), axes, arrives))
    kept = math.log1p(-math.exp(min(before.log_delta, 0.0)) * (1.0 - 1.0 / n))
    log_delta = before.log_delta - math.log(n) - kept
    # A window's mean is of the same sign as its elements' mean, and Gaussian where it averages many of them.
    mean = before.mean * math.exp(-0.5 * kept)
    after = before.changed(
        log_q + kept, size=size, log_delta=log_delta, mean=max(-1.0, min(mean, 1.0)), kurtosis=before.kurtosis
    )
    return after, Gain(np.array(-math.log(n)), axes, arrives)


def _windows(step: Pool, before: Moments) -> tuple[tuple[int, ...], Axes | None, tuple[int, ...]]:
    """The size that comes out, the matrices that average over windows (None: over all there is), and its grid."""
    geometry = step.geometry
    if geometry is not None and before.size == geometry.input_size:
        counted = taps(geometry)
        rows = tuple(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-300) for matrix in counted)
        return geometry.output_size, rows, grid_of(geometry.output_size)
    size = geometry.output_size if geometry is not None else step.size
    if not size:
        return (), None, before.log_q.shape if not before.size else (1,)
    return size, resampling(before.size, size), grid_of(size)


def _maximum(step: Pool, before: Moments, log_q: Array, size: tuple[int, ...], gain: Gain) -> tuple[Moments, Gain]:
    """The maximum of n values that share p of their second moment; of an activation's outputs, the activation of the
    largest pre-activation, if it rises."""
    origin = before.origin
    activation, inner = (origin.activation, origin.before) if origin is not None else (_IDENTITY, before)
    if activation.gated or (origin is not None and origin.factor <= 0):
        raise NoPredictionError(f"the theory has no rule for the maximum of {activation.name}")
    level = inner.log_level
    unit = math.exp(0.5 * level)
    variance = max(1.0 - inner.mean**2, 1e-9)
    own = min(math.exp(min(inner.log_delta, 0.0)), variance)
    shared_points, shared_weights = np.polynomial.hermite_e.hermegauss(24)
    shared_weights = shared_weights / shared_weights.sum()
    t = np.linspace(-8.0, 8.0, 801)
    below = 0.5 * torch.special.erfc(torch.from_numpy(-t / math.sqrt(2))).numpy()
    density = step.values * np.exp(-0.5 * t**2) * below ** (step.values - 1.0)
    density = density / density.sum()
    centre = inner.mean + math.sqrt(max(variance - own, 0.0)) * shared_points
    z = unit * (centre[:, None] + math.sqrt(own) * t)
    value_, slope_ = value_and_slope(activation.function, torch.from_numpy(z))
    value, slope = value_.numpy(), slope_.numpy()
    if not _rises(value[12]):
        raise NoPredictionError(f"the theory has no rule for the maximum of {activation.name}")
    means = value @ density
    second, shared = float(shared_weights @ (value**2 @ density)), float(shared_weights @ means**2)
    steep = float(shared_weights @ (slope**2 @ density))
    if not (second > 0 and steep > 0):
        raise NoPredictionError(f"the maximum of {activation.name} is flat")
    factor = 1.0 if origin is None else origin.factor**2
    log_second = math.log(second * factor)
    before_level = before.log_level
    difference = second - shared
    log_delta = math.log(difference / second) if difference > 1e-6 * second else before.log_delta
    log_slope = math.log(steep) - (float(log_mean(origin.log_slope)) if origin is not None else 0.0)
    after = before.changed(
        log_q + (log_second - before_level),
        size=size,
        log_delta=log_delta,
        mean=float(shared_weights @ means) / math.sqrt(second),
        kurtosis=float(shared_weights @ (value**4 @ density)) / second**2,
    )
    return after, Gain(gain.log_factor + log_slope, gain.axes, gain.arrives_at)


def _rises(values: Array) -> bool:
    """Whether φ grows, but for a dip such as that of GELU and SiLU."""
    steps = np.diff(values)
    return float(-steps[steps < 0].sum()) <= 0.2 * float(steps[steps > 0].sum())


def through_upsampling(step: Upsample, before: Moments) -> tuple[Moments, Gain]:
    """Each value repeated: the gradients of the copies add up as independent ones do."""
    log_q, gain = resized(before.log_q, before.size, step.size)
    return before.changed(log_q, size=step.size, kurtosis=before.kurtosis), gain


def through_add(step: Add, parts: Sequence[Moments]) -> tuple[Moments, list[list[Gain]]]:
    """A sum of two values that are independent but for their means; the gradient goes whole into both."""
    one, other = parts
    if one.sources & other.sources:
        raise NoPredictionError("two values of one origin are added with no weights between, and they are correlated")
    one, other, gains = _aligned(one, other)
    a, b = one.log_q, other.log_q
    sign = -1.0 if step.negative else 1.0
    level_a, level_b = one.log_level, other.log_level
    cross = 2.0 * sign * one.mean * other.mean * math.exp(0.5 * (level_a + level_b))
    log_sum = np.logaddexp(a, b)
    plain = float(log_mean(log_sum))
    grown = math.log1p(max(cross * math.exp(-plain), -0.999))
    level = plain + grown
    log_d = float(np.logaddexp(level_a + one.log_delta, level_b + other.log_delta))
    mean = one.mean * math.exp(0.5 * (level_a - level)) + sign * other.mean * math.exp(0.5 * (level_b - level))
    kurtosis = 3.0 + (one.kurtosis - 3.0) * math.exp(2 * (level_a - level))
    after = Moments(
        log_sum + grown,
        one.size,
        log_d - level,
        max(-1.0, min(mean, 1.0)),
        kurtosis=max(kurtosis + (other.kurtosis - 3.0) * math.exp(2 * (level_b - level)), 1.0),
        sources=one.sources | other.sources,
    )
    return after, gains


def through_gate(parts: Sequence[Moments]) -> tuple[Moments, list[list[Gain]]]:
    """A product of two values, taken for independent: E[a²b²] = E[a²] E[b²]; the covariances multiply too."""
    one, other = parts
    if one.sources & other.sources:
        raise NoPredictionError("two values of one origin are multiplied, and they are correlated")
    one, other, gains = _aligned(one, other)
    c_one, c_other = (1.0 - math.exp(min(part.log_delta, 0.0)) for part in (one, other))
    log_delta = math.log1p(-c_one * c_other) if c_one * c_other < 1 else -math.inf
    if c_one * c_other > 0.999:
        log_delta = float(np.logaddexp(one.log_delta, other.log_delta))
    after = Moments(
        one.log_q + other.log_q,
        one.size,
        log_delta,
        one.mean * other.mean,
        kurtosis=one.kurtosis * other.kurtosis,
        sources=one.sources | other.sources,
    )
    gains[0].append(Gain(np.array(other.log_level)))
    gains[1].append(Gain(np.array(one.log_level)))
    return after, gains


def _aligned(one: Moments, other: Moments) -> tuple[Moments, Moments, list[list[Gain]]]:
    """Both on the larger of their maps, and the gains back to where each came from."""
    gains: list[list[Gain]] = [[], []]
    pair = [one, other]
    if one.size != other.size:
        smaller = 0 if math.prod(one.size) < math.prod(other.size) else 1
        size = pair[1 - smaller].size
        log_q, gain = resized(pair[smaller].log_q, pair[smaller].size, size)
        pair[smaller] = pair[smaller].changed(log_q, size=size)
        gains[smaller].append(gain)
    return pair[0], pair[1], gains


def through_concat(step: Concat, parts: Sequence[Moments]) -> tuple[Moments, list[list[Gain]]]:
    """Channels side by side, as a mixture; of the gradient each part gets its share of the channels."""
    if len({part.size for part in parts}) > 1:
        raise NoPredictionError("maps of different sizes are concatenated")
    logs = [math.log(share) for share in step.shares]
    shifted = [part.log_q + log for part, log in zip(parts, logs, strict=True)]
    if len({array.shape for array in shifted}) > 1:  # an ensemble, and one for all samples
        shifted = list(np.broadcast_arrays(*shifted))
    log_q = log_sum_exp(np.moveaxis(np.array(shifted), 0, -1))
    log_d = float(log_sum_exp(np.array([p.log_level + p.log_delta + log for p, log in zip(parts, logs, strict=True)])))
    level = float(log_mean(log_q))
    weigh = zip(step.shares, parts, strict=True)
    mean = sum(share * part.mean * math.exp(0.5 * (part.log_level - level)) for share, part in weigh)
    sources = 0
    for part in parts:
        sources |= part.sources
    kurtosis = sum(
        share * part.kurtosis * math.exp(2 * (part.log_level - level))
        for share, part in zip(step.shares, parts, strict=True)
    )
    after = Moments(log_q, parts[0].size, log_d - level, mean, kurtosis=kurtosis, sources=sources)
    return after, [[Gain(np.array(log))] for log in logs]
