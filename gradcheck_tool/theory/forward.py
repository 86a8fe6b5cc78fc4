"""One step forward: the moments of its inputs go in; the moments that it puts out, and the gains back to each input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_tool.theory.activations import compose
from gradcheck_tool.theory.correlation import Spectrum, moments_around, spectrum_at
from gradcheck_tool.theory.gaussian import Activation, Array, log_moments
from gradcheck_tool.theory.moments import (
    SAMPLES,
    Moments,
    NoPredictionError,
    Origin,
    log_less,
    log_mean,
    log_spread,
)
from gradcheck_tool.theory.spatial import Axes, Size, grid_of, resampling, taps
from gradcheck_tool.theory.sphere import FEWEST, GAUSSIAN_FROM, SphereMoments, sphere_moments
from gradcheck_tool.theory.steps import Dropout, Norm, Scale, Shift
from gradcheck_tool.theory.weight_statistics import Weights


@dataclass(frozen=True)
class Gain:
    """One step back: squared gradients are moved by `axes` (None: they stay where they are), then scaled.

    `log_factor` is natural, of the shape of the map (or of the ensemble) that the step arrives at, or a scalar.
    `arrives_at` is a shape to spread out over evenly, where what comes from above says nothing of positions.
    """

    log_factor: Array
    axes: Axes | None = None
    arrives_at: Size | None = None


STILL = Gain(np.array(0.0))


def through_weights(weights: Weights, before: Moments, noise: np.random.Generator) -> tuple[Moments, list[Gain]]:
    """A weight layer. Pre-activations of independent weights have no mean over channels; the bias is shared by all
    samples and takes no part in their difference."""
    log_weight = np.array(math.log(weights.inputs_per_tap) + math.log(weights.second_moment))
    geometry, log_q, size = weights.geometry, before.log_q, before.size
    if geometry is None:
        gains = [Gain(log_weight, arrives_at=log_q.shape if size else None)]
        width = math.log1p(min(max(before.kurtosis - 1.0, 0.0) / weights.fan_in, 1.0))
        half = noise.standard_normal(SAMPLES // 2)
        half *= math.sqrt(width / float(np.square(half).mean()))
        scatter = np.concatenate([half, -half]) - 0.5 * width
        log_q, size = (log_mean(log_q) if size else log_q) + log_weight + scatter, ()
    else:
        gains = []
        if size != geometry.input_size:
            log_q, gain = resized(log_q, size, geometry.input_size)
            gains.append(gain)
        matrices = taps(geometry)
        gains.append(Gain(log_weight, matrices))
        log_q, size = log_spread(matrices, log_q) + log_weight, geometry.output_size
    log_delta = before.log_delta
    if weights.bias_second_moment > 0:
        alone = float(log_mean(log_q))
        log_q = np.logaddexp(log_q, math.log(weights.bias_second_moment))
        log_delta += alone - float(log_mean(log_q))
    return Moments(log_q, size, log_delta), gains


def resized(log_q: Array, size: Size, to: Size) -> tuple[Array, Gain]:
    """A map carried over to another size, and the gain back."""
    axes = resampling(size, to)
    if axes is None:
        return np.full(grid_of(to), float(log_mean(log_q))), Gain(np.array(0.0), None, log_q.shape)
    return log_spread(axes, log_q), Gain(np.array(0.0), axes)


def through_activation(activation: Activation, before: Moments) -> tuple[Moments, Gain]:
    """An activation. Straight after another one it is composed with it: the derivative is no product of independent
    ones."""
    origin = before.origin
    if origin is None:
        return _activated(activation, before)
    if origin.activation.gated or activation.gated:
        raise NoPredictionError(f"the theory has no rule for {activation.name} straight after {origin.activation.name}")
    after, both = _activated(_composed(origin.activation, activation, origin.factor), origin.before)
    with np.errstate(invalid="ignore"):
        alone = np.nan_to_num(both.log_factor - origin.log_slope, nan=-np.inf)
    return after, Gain(alone)


_COMPOSED: dict[tuple[Activation, Activation, float], Activation] = {}


def _composed(inner: Activation, outer: Activation, factor: float) -> Activation:
    key = inner, outer, factor
    if key not in _COMPOSED:
        if len(_COMPOSED) >= 256:  # of one model there are few
            _COMPOSED.clear()
        _COMPOSED[key] = compose(*key)
    return _COMPOSED[key]


def _activated(activation: Activation, before: Moments) -> tuple[Moments, Gain]:
    level = before.log_level
    spectrum: Spectrum | None = None
    if before.mean and not activation.gated:
        log_value, log_slope, kurtoses, spectrum, log_delta = _off_centre(activation, before, level)
    else:
        log_value, log_slope, *log_kurtoses = log_moments(activation, before.log_q)
        kurtoses = [math.exp(min(_mean_of_finite(log), 30.0)) for log in log_kurtoses]
        log_delta = min(before.log_delta, 0.0)
    if not (log_value.max() < math.inf and log_slope.max() < math.inf):  # nan is not
        raise NoPredictionError(f"{activation.name} has no finite second moment for a Gaussian input of that size")
    sphere = _on_the_sphere(activation, before)
    if sphere is not None:
        log_value = log_value - float(log_mean(log_value)) + math.log(sphere.value)
        log_slope = log_slope - float(log_mean(log_slope)) + math.log(sphere.kept) - level
        log_difference = math.log(sphere.difference / sphere.value)
        mean = sphere.mean / math.sqrt(sphere.value)
    else:
        spectrum = spectrum or spectrum_at(activation, level)
        log_difference, mean = spectrum.log_difference(log_delta), spectrum.mean
        if activation.gated:  # a φ(b): the covariance is a product
            log_difference, mean = _either(log_difference, log_delta), 0.0
    origin = Origin(activation, before, 1.0, log_slope)
    after = Moments(
        log_value, before.size, log_difference, mean, kurtoses[0], kurtoses[1], origin=origin, sources=before.sources
    )
    return after, Gain(log_slope)


def _on_the_sphere(activation: Activation, before: Moments) -> SphereMoments | None:
    """The moments of what batch norm has just normalized, where it is over so few values that they are no Gaussian."""
    n = before.normalized
    if n is None or n >= GAUSSIAN_FROM or activation.gated:
        return None
    sphere = sphere_moments(activation, round(math.exp(0.5 * before.log_level), 6), n)
    return sphere if sphere.value > 0 and sphere.kept > 0 else None


def _mean_of_finite(values: Array) -> float:
    total = float(values.sum())
    return total / values.size if math.isfinite(total) else float(np.nan_to_num(values).mean())


def _off_centre(
    activation: Activation, before: Moments, level: float
) -> tuple[Array, Array, list[float], Spectrum, float]:
    """An activation of values with a mean, taken for Gaussian around it: a shortcut that itself came from a ReLU."""
    centre = before.mean * math.exp(0.5 * level)
    variance = max(1.0 - before.mean**2, 1e-6)
    found = moments_around(activation, centre, math.exp(0.5 * level) * math.sqrt(variance))
    relative = before.log_q - level
    log_delta = min(before.log_delta - math.log(variance), 0.0)
    return (
        relative + found.log_value,
        np.full_like(relative, found.log_slope),
        [found.slope_kurtosis, found.value_kurtosis],
        found.spectrum,
        log_delta,
    )


def _either(log_a: float, log_b: float) -> float:
    """log(1 − c₁ c₂) of log(1 − c₁) and log(1 − c₂)."""
    a, b = min(log_a, 0.0), min(log_b, 0.0)
    return float(np.logaddexp(a, b + (math.log(-math.expm1(a)) if a < 0 else -math.inf)))


def through_scale(step: Scale, before: Moments) -> tuple[Moments, Gain]:
    """Multiplication by a constant."""
    if not (step.factor > 0 and math.isfinite(step.factor)):
        raise NoPredictionError(f"a factor of {step.factor} between its layers")
    log = math.log(step.factor)
    if log == 0.0 and not step.negative:
        return before, STILL
    origin = before.origin
    if origin is not None:
        sign = -1.0 if step.negative else 1.0
        origin = replace(origin, factor=origin.factor * sign * math.sqrt(step.factor))
    mean = -before.mean if step.negative else before.mean
    after = replace(before, log_q=before.log_q + log, mean=mean, origin=origin)
    return after, Gain(np.array(log))


def through_dropout(step: Dropout, before: Moments) -> tuple[Moments, Gain]:
    """Two samples drop different values: their covariance stays, their second moments grow."""
    if not 0.0 <= step.rate < 1.0:
        raise NoPredictionError(f"a dropout of {step.rate:g} between its layers")
    if step.rate == 0.0:
        return before, STILL
    keep = 1.0 - step.rate
    log_delta = float(np.logaddexp(math.log(step.rate), math.log(keep) + before.log_delta))
    origin = before.origin and replace(before.origin, factor=before.origin.factor / math.sqrt(keep))
    log = -math.log(keep)
    after = replace(
        before,
        log_q=before.log_q + log,
        log_delta=log_delta,
        mean=before.mean * math.sqrt(keep),
        normalized=None,
        origin=origin,
    )
    return after, Gain(np.array(log))


def through_shift(step: Shift, before: Moments) -> tuple[Moments, Gain]:
    """A bias, or an embedding of positions: shared by all samples, independent of the value."""
    if step.second_moment <= 0:
        return before, STILL
    alone = before.log_level
    log_q = np.logaddexp(before.log_q, math.log(step.second_moment))
    level = float(log_mean(log_q))
    ratio = math.exp(0.5 * (alone - level))
    mean = before.mean * ratio + step.mean * math.exp(-0.5 * level)
    return before.changed(log_q, log_delta=before.log_delta + alone - level, mean=mean), STILL


def through_norm(step: Norm, before: Moments) -> tuple[Moments, Gain]:
    """A normalization: q becomes E[γ²] + E[β²]; squared gradients are divided by the variance that was taken out.

    Over n channels and P positions of one sample the mean takes out m² + (p − m²)/n + (q − p)/(n P): the mean over
    channels, that of the channels' own means, and that of what differs between positions. Batch norm, with one channel
    and all samples, takes out all that samples share.
    """
    if step.values < FEWEST:
        raise NoPredictionError(f"a normalization over {step.values} values")
    level = before.log_level
    log_d = level + before.log_delta
    shared = max(0.0, 1.0 - math.exp(min(before.log_delta, 0.0)))  # p / q
    common = before.mean**2
    scale, shift = step.scale, step.shift
    if scale <= 0:
        raise NoPredictionError("a normalization whose weight is zero")
    size = scale + shift
    relative = before.log_q - level if before.size and step.over != "channels" else np.zeros_like(before.log_q)
    log_out = math.log(size) + relative
    mean = step.shift_mean / math.sqrt(size)
    if step.over == "batch":
        log_variance = float(np.logaddexp(log_d, math.log(step.epsilon)))
        n = step.values
        after = before.changed(
            log_out,
            log_delta=math.log(scale / size),
            mean=mean,
            normalized=None if shift else n,
            kurtosis=3.0,
        )
        log_gain = math.log(scale) - log_variance + math.log(n / (n - 3))
        return after, Gain(np.array(log_gain))
    removed = 0.0
    if step.channels == 1:
        # Behind global average pooling that is all of it, or half behind a ReLU too: measured 0.3 decades in 14 layers.
        raise NoPredictionError("instance norm, which takes out what the positions of a map share of their gradient")
    if step.centered:
        positions = step.values / step.channels
        own = max(shared - common, 0.0)
        removed = common + own / step.channels + (1.0 - shared) / (step.channels * positions)
        left = own * (1.0 - 1.0 / step.channels)
    else:
        left = shared
        mean += before.mean * math.sqrt(scale / size)
    if removed >= 1.0 - 1e-12:
        raise NoPredictionError("a normalization of values that are all alike")
    log_epsilon = math.log(step.epsilon) if step.epsilon > 0 else -math.inf
    variance = math.log1p(-removed)
    here = before.log_q if step.over == "channels" and before.size else np.array(level)
    log_variance_map = np.logaddexp(here + variance, log_epsilon)
    # What two samples do not share, of the part that is left: exactly, where little is left of their difference
    log_delta = log_less(0.0, math.log(left) - variance) if left > 0 else 0.0
    if shared > 0.999:
        log_delta = before.log_delta - variance
    after = before.changed(log_out, log_delta=min(log_delta, 0.0) + math.log(scale / size), mean=mean, kurtosis=3.0)
    return after, Gain(math.log(scale) - log_variance_map)
