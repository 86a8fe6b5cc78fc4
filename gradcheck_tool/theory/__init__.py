"""Signal-propagation theory: the stages of one chain go in; how its gradient grows on the way back comes out.

Pre-activations are taken for centred Gaussians of second moment q. Forward, a weight layer makes
q' = n E[w²] E[φ(z)²] + E[b²], n being the number of taps; backward, the squared norm of the gradient is multiplied by
n E[w²] E[φ'(z)²] (the total over a tensor, so that it is the fan-in that counts: each element of the gradient reaches n
inputs). Sums over taps are taken position by position where the layers are convolutions. Through dense layers goes not
one q but a small ensemble, one a sample of the batch: at finite width n samples differ in q by (kurtosis − 1)/n a
layer, and where the fixed point is unstable (GELU, SiLU with He) those whose gradient lives on dominate the norm.
Sources: Schoenholz et al. 2017, eqs. 3 and 14; Hanin 2018 for fluctuations at finite width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gradcheck_tool.theory.activations import activation_named, activation_of, compose, find_kinks
from gradcheck_tool.theory.gaussian import Activation, Array, log_moments, log_sum_exp, second_moments
from gradcheck_tool.theory.spatial import Axes, ConvGeometry, Size, gather, grid_of, resampling, spread, taps
from gradcheck_tool.theory.weight_statistics import BIAS_MEAN_LIMIT, Weights, objection, weights_of

__all__ = [
    "Activation",
    "ConvGeometry",
    "Prediction",
    "Scale",
    "Stage",
    "Weights",
    "activation_named",
    "activation_of",
    "find_kinks",
    "predict",
    "second_moments",
    "weights_of",
]


SAMPLES = 64  # members of the ensemble of q in dense layers; their noise is centred, so that to first order it cancels


@dataclass(frozen=True)
class Scale:
    """A passing op that changes size alone: the factor on second moments forward and on squared gradients backward.

    1/(1 − p) for dropout with probability p in training, c² for multiplication by a constant c.
    """

    factor: float


Stage: TypeAlias = Weights | Activation | Scale


@dataclass(frozen=True)
class Prediction:
    """What the theory says of a chain.

    `decades` is log10 of ‖∂L/∂z‖ at the first weight layer's output over that at the last's, norms over the whole
    tensor; None where the theory does not hold, and `reason` says why. `spread` is the standard deviation in decades
    that drawing the weights anew would give, at most: what no theory of infinite width can foretell.
    """

    decades: float | None
    reason: str | None = None
    spread: float | None = None


@dataclass(frozen=True)
class _Gain:
    """One step back: squared gradients are moved by `axes` (None: they stay where they are), then scaled.

    `log_factor` is natural, of the shape of the map (or of the ensemble) that the step arrives at, or a scalar.
    `arrives_at` is a shape to spread out over evenly, where what comes from above says nothing of positions.
    """

    log_factor: Array
    axes: Axes | None = None
    arrives_at: Size | None = None


def predict(stages: Sequence[Stage], q0: float = 1.0) -> Prediction:
    """Predicted change of the gradient norm over one chain.

    Args:
        stages: from the first block's Weights to the last block's; in between activations, scales, and weights that
            are no block. Several activations in a row are composed.
        q0: second moment of the elements of the chain's input, positive.

    Time and memory are linear in the number of stages. Nothing is drawn at random.

    Raises:
        ValueError: `stages` does not begin and end with Weights.
    """
    if not stages or not isinstance(stages[0], Weights) or not isinstance(stages[-1], Weights):
        raise ValueError("the stages of a chain begin and end with Weights")
    for number, stage in enumerate(stages):
        reason = objection(stage) if isinstance(stage, Weights) else None
        if reason is not None:
            return Prediction(None, f"{_ordinal(stages, number)} has {reason}")
    try:
        gains, variance = _forward(_merged(stages), q0)
    except _NoPredictionError as error:
        return Prediction(None, str(error))
    log_energy = _backward(gains)
    if not math.isfinite(log_energy):
        return Prediction(
            None, "no gradient at all reaches the first block: an activation is flat wherever its input lies"
        )
    return Prediction(0.5 * log_energy / math.log(10), spread=0.5 * math.sqrt(variance) / math.log(10))


class _NoPredictionError(Exception):
    """The chain leaves the ground on which the theory stands; the message is the reason, for people."""


def _ordinal(stages: Sequence[Stage], number: int) -> str:
    position = sum(isinstance(stage, Weights) for stage in stages[: number + 1])
    return f"weight layer {position} of the chain"


def _merged(stages: Sequence[Stage]) -> list[Stage]:
    """Activations in a row (with nothing but scales between them) become one; its derivative is not a product of
    independent ones."""
    result: list[Stage] = []
    composed: dict[tuple[Activation, Activation, float], Activation] = {}
    for stage in stages:
        if isinstance(stage, Activation):
            between = len(result)
            while between and isinstance(result[between - 1], Scale):
                between -= 1
            inner = result[between - 1] if between else None
            if isinstance(inner, Activation):
                if inner.gated or stage.gated:
                    raise _NoPredictionError(f"the theory has no rule for {stage.name} straight after {inner.name}")
                factor = math.prod(scale.factor for scale in result[between:] if isinstance(scale, Scale))
                pair = inner, stage, math.sqrt(factor)
                if pair not in composed:
                    composed[pair] = compose(*pair)
                result[between - 1 :] = [composed[pair]]
                continue
        result.append(stage)
    return result


def _forward(stages: Sequence[Stage], q0: float) -> tuple[list[_Gain], float]:
    """Second moments through the chain; returns the gains to walk back through, in forward order, and the variance of
    the log of the squared gradient norm that finite widths leave (Hanin 2018: 2/n a linear layer, 5/n a ReLU block)."""
    gains: list[_Gain] = []
    variance = 0.0
    size: Size = ()
    log_q = np.full(SAMPLES, math.log(q0))
    noise = np.random.default_rng(0)
    kurtosis, kurtosis_out = 1.0, 3.0
    for number, stage in enumerate(stages):
        if isinstance(stage, Weights):
            here, log_q, size = _through_weights(stage, log_q, size, kurtosis_out, noise)
            if number:
                gains += here
                groups = 1 if stage.geometry is None else stage.geometry.groups
                variance += (3.0 * kurtosis - 1.0) / (stage.fan_in * groups)
            kurtosis, kurtosis_out = 1.0, 3.0
            if stage.bias_mean_is_significant and stage.bias_mean != 0.0:
                log_share = 2 * math.log(abs(stage.bias_mean)) - float(log_q.max())
                if log_share > math.log(BIAS_MEAN_LIMIT):
                    raise _NoPredictionError(
                        f"{_ordinal(stages, number)} has a bias with a mean of {stage.bias_mean:.3g}, "
                        f"{math.exp(0.5 * log_share):.2g} times the root mean square of its pre-activations: they are "
                        "not centred"
                    )
        elif isinstance(stage, Activation):
            log_q, log_slope, *log_kurtoses = log_moments(stage, log_q)
            if np.isnan(log_q).any() or np.isnan(log_slope).any() or np.isposinf([log_q, log_slope]).any():
                raise _NoPredictionError(f"{stage.name} has no finite second moment for a Gaussian input of that size")
            gains.append(_Gain(log_slope))
            kurtosis, kurtosis_out = (math.exp(min(float(np.nan_to_num(log).mean()), 30.0)) for log in log_kurtoses)
        else:
            if not (stage.factor > 0 and math.isfinite(stage.factor)):
                raise _NoPredictionError(f"a factor of {stage.factor} between its layers")
            log_q = log_q + math.log(stage.factor)
            gains.append(_Gain(np.array(math.log(stage.factor))))
    return gains, variance


def _through_weights(
    weights: Weights, log_q: Array, size: Size, kurtosis: float, noise: np.random.Generator
) -> tuple[list[_Gain], Array, Size]:
    """One weight layer: the gains back through it, the log second moments it puts out, and their spatial size.

    `log_q` is a map of the grid of `size`, or where that is () the ensemble; `kurtosis` is that of the layer's inputs.
    """
    log_weight = np.array(math.log(weights.inputs_per_tap) + math.log(weights.second_moment))
    geometry = weights.geometry
    if geometry is None:
        gains = [_Gain(log_weight, arrives_at=log_q.shape if size else None)]
        width = math.log1p(min(max(kurtosis - 1.0, 0.0) / weights.fan_in, 1.0))
        half = noise.standard_normal(SAMPLES // 2)
        half *= math.sqrt(width / float(np.square(half).mean()))
        scatter = np.concatenate([half, -half]) - 0.5 * width
        log_q, size = (_log_mean(log_q) if size else log_q) + log_weight + scatter, ()
    else:
        gains = []
        if size != geometry.input_size:
            axes = resampling(size, geometry.input_size)
            gains.append(_Gain(np.array(0.0), axes, None if axes else log_q.shape))
            grid = grid_of(geometry.input_size)
            log_q = _log_spread(axes, log_q) if axes else np.full(grid, float(_log_mean(log_q)))
        matrices = taps(geometry)
        gains.append(_Gain(log_weight, matrices))
        log_q, size = _log_spread(matrices, log_q) + log_weight, geometry.output_size
    if weights.bias_second_moment > 0:
        log_q = np.logaddexp(log_q, math.log(weights.bias_second_moment))
    return gains, log_q, size


def _backward(gains: Sequence[_Gain]) -> float:
    """Natural log of the squared gradient norm at the first weight layer, that at the last being 1, spread evenly."""
    log_energy = 0.0
    field: Array | None = None
    for gain in reversed(gains):
        if gain.arrives_at is not None:
            field = _even(gain.arrives_at)
        elif gain.axes is not None:
            shape = tuple(matrix.shape[0] for matrix in gain.axes)
            field = gather(gain.axes, _even(shape) if field is None or field.shape != shape else field)
        peak = float(gain.log_factor.max())
        log_energy += peak
        if not math.isfinite(peak):
            return -math.inf
        if gain.log_factor.ndim:
            field = (_even(gain.log_factor.shape) if field is None else field) * np.exp(gain.log_factor - peak)
        if field is not None:
            total = float(field.sum())
            if total == 0.0:
                return -math.inf
            field = field / total
            log_energy += math.log(total)
    return log_energy


def _even(shape: Size) -> Array:
    return np.full(shape, 1.0 / math.prod(shape))


def _log_mean(log_field: Array) -> Array:
    if log_field.ndim == 0:
        return log_field
    return np.asarray(log_sum_exp(log_field.ravel()) - math.log(log_field.size))


def _log_spread(axes: Axes, log_field: Array) -> Array:
    peak = float(log_field.max())
    if not math.isfinite(peak):
        return _zeros_of(axes)
    with np.errstate(divide="ignore"):
        result: Array = np.log(spread(axes, np.exp(log_field - peak))) + peak
    return result


def _zeros_of(axes: Axes) -> Array:
    return np.full(tuple(matrix.shape[0] for matrix in axes), -np.inf)
