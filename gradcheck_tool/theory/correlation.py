"""What an activation does to the covariance between two samples: the correlation map, by Hermite coefficients.

With z₁, z₂ of variance q and correlation c, and φ(√q u) = Σ aₖ hₖ(u) in normalized Hermite polynomials,
E[φ(z₁) φ(z₂)] = Σ aₖ² cᵏ (Mehler's formula; Schoenholz et al. 2017, eq. 5, is its integral form). What is carried on
is δ = 1 − c, in logs, as half the mean squared difference Σ aₖ² (1 − cᵏ): where a net forgets its input, c is 1 to the
last bit long before the difference is nothing.

Two positions of one feature map are to the theory what two samples are: they too share the channel's weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch

from gradcheck_tool.theory.gaussian import (
    LOG10,
    NODES_PER_DECADE,
    Activation,
    Array,
    legendre,
    panels,
    value_and_slope,
)

ORDER = 32
"""Coefficients of their own; the rest are one term whose order is such that the slope at c = 1 is exact."""
_LOG_Q_LIMIT = 30 * LOG10  # as far as the tables of moments go; beyond, the shape of φ no longer changes
_LINEAR_BELOW = math.log(1e-9)  # δ below which Σ aₖ² (1 − cᵏ) is δ Σ k aₖ² to the last digits
_ORDERS = np.arange(1.0, ORDER + 1.0)


@dataclass(frozen=True)
class Spectrum:
    """φ at one size of its input. `shares`: aₖ² over E[φ²], k = 0 … ORDER; `mean`: E[φ] over √E[φ²], with its sign;
    `slope`: Σ k aₖ² over E[φ²], that is q E[φ'²] / E[φ²]."""

    shares: Array
    mean: float
    slope: float

    def log_difference(self, log_delta: float) -> float:
        """log(1 − c) of the outputs, c being E[φ(z₁) φ(z₂)] / E[φ²], for inputs whose log(1 − c) is `log_delta`."""
        if log_delta < _LINEAR_BELOW:
            return log_delta + (math.log(self.slope) if self.slope > 0 else -math.inf)
        rest = max(0.0, 1.0 - float(self.shares.sum()))
        log_c = math.log(-math.expm1(log_delta)) if log_delta < 0 else -math.inf
        lost = -np.expm1(_ORDERS * log_c)
        total = float(self.shares[1:] @ lost)
        if rest > 1e-12:
            order = max((self.slope - float(self.shares[1:] @ _ORDERS)) / rest, ORDER + 1.0)
            total += rest * -math.expm1(order * log_c)
        return math.log(total) if total > 0 else -math.inf


@dataclass(frozen=True)
class Moments:
    """E[φ²] and E[φ'²] for one Gaussian input, their kurtoses, and the spectrum."""

    log_value: float
    log_slope: float
    value_kurtosis: float
    slope_kurtosis: float
    spectrum: Spectrum


def spectrum_at(activation: Activation, log_q: float) -> Spectrum:
    """The spectrum for centred inputs of second moment q, interpolated in log q between the nodes of a table."""
    table = _TABLES.get(activation)
    if table is None:
        table = _TABLES[activation] = {}
    position = min(max(log_q, -_LOG_Q_LIMIT), _LOG_Q_LIMIT) * (NODES_PER_DECADE / LOG10)
    low = math.floor(position)
    part = position - low
    first, second = (_node(activation, table, node) for node in (low, low + 1))
    return Spectrum(
        (1 - part) * first.shares + part * second.shares,
        (1 - part) * first.mean + part * second.mean,
        (1 - part) * first.slope + part * second.slope,
    )


def _node(activation: Activation, table: dict[int, Spectrum], node: int) -> Spectrum:
    if node not in table:
        table[node] = moments_around(activation, 0.0, math.exp(0.5 * node * LOG10 / NODES_PER_DECADE)).spectrum
    return table[node]


_TABLES: WeakKeyDictionary[Activation, dict[int, Spectrum]] = WeakKeyDictionary()


def moments_around(activation: Activation, mean: float, deviation: float) -> Moments:
    """The moments of φ(mean + deviation · u), u ~ N(0, 1), integrated panel by panel between the kinks."""
    borders = panels(np.array([deviation]), tuple(kink - mean for kink in activation.kinks))[0]
    borders = borders[np.abs(borders) <= 12.0]  # what lies beyond weighs less than 1e-31
    borders = np.unique(np.concatenate([[-12.0], borders, [12.0]]))
    points, weights = legendre(12)
    half = 0.5 * np.diff(borders)[:, None]
    u = (borders[:-1, None] + half * (1.0 + points)).ravel()
    density = (half * weights).ravel() * np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)
    value_, slope_ = value_and_slope(activation.function, torch.from_numpy(mean + deviation * u))
    value, slope = value_.numpy(), slope_.numpy()
    unit = float(np.abs(value).max()) or 1.0
    slope_unit = float(np.abs(slope).max()) or 1.0
    value, slope = value / unit, slope / slope_unit
    second, slope_second = float(density @ value**2), float(density @ slope**2)
    if not (second > 0 and math.isfinite(unit)):
        return Moments(math.nan if math.isnan(unit) else -math.inf, -math.inf, 3.0, 1.0, _FLAT)
    coefficients = _hermite(u) @ (density * value)
    log_value, log_slope = (
        math.log(moment) + 2 * math.log(scale) if moment > 0 else -math.inf
        for moment, scale in ((second, unit), (slope_second, slope_unit))
    )
    steepness = math.exp(min(log_slope - log_value + 2 * math.log(deviation), 600.0))
    return Moments(
        log_value,
        log_slope,
        float(density @ value**4) / second**2,
        float(density @ slope**4) / slope_second**2 if slope_second > 0 else 1.0,
        Spectrum(coefficients**2 / second, float(coefficients[0]) / math.sqrt(second), steepness),
    )


_FLAT = Spectrum(np.eye(1, ORDER + 1)[0], 0.0, 0.0)


def _hermite(u: Array) -> Array:
    """Shape (ORDER + 1, len(u)): the Hermite polynomials that are orthonormal under the standard normal density."""
    result = np.empty((ORDER + 1, len(u)))
    result[0], result[1] = 1.0, u
    for k in range(1, ORDER):
        result[k + 1] = (u * result[k] - math.sqrt(k) * result[k - 1]) / math.sqrt(k + 1)
    return result
