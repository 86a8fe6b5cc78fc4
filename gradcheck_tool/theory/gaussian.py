"""Gaussian integrals of activations: an elementwise function φ goes in; the logs of E[φ(√q u)²], E[φ'(√q u)²] and of
the fourth moments (how much finite widths fluctuate) come out, u ~ N(0, 1).

Kinks are panel borders, since a quadrature rule across a kink is wrong in the second digit; sums are taken in the log
domain, so that q may lie anywhere. Values are tabulated on a log grid of q and interpolated there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[np.float64]
Elementwise: TypeAlias = Callable[[Tensor], Tensor]
ClosedForm: TypeAlias = Callable[[Array], tuple[Array, Array, Array, Array]]

NODES_PER_DECADE = 16  # cubic interpolation in log q is then good to 1e-5 of a moment
DECADES = 30  # the table covers q from 1e-30 to 1e30; beyond, moments follow the power law found at its end
_RANGE = 38.5  # |u| beyond which exp(-u²/2) is below the smallest float64
_COARSE, _FINE = 12, 20  # Gauss-Legendre nodes per panel; two rules that agree have converged
_AGREEMENT = 1e-9
_HALVINGS = 6
_BATCH = 16  # table nodes computed in one go
LOG10 = math.log(10.0)
_POWERS = np.array([2.0, 2.0, 4.0, 4.0])[:, None, None]


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinear function.

    `function` takes and returns a float64 tensor of any shape and is differentiable by autograd. `kinks` are the
    points where it or its first derivative jumps. `gated`: GLU-like, the channels are halved and a · function(b) comes
    out. `closed_form`, where there is one, gives E[φ²], E[φ'²], E[φ'⁴], E[φ⁴] as functions of q: needed where φ
    oscillates, so that no quadrature can follow it to large q, and for the most frequent of all.
    """

    name: str
    function: Elementwise
    kinks: tuple[float, ...] = ()
    gated: bool = False
    closed_form: ClosedForm | None = None


def value_and_slope(function: Elementwise, x: Tensor) -> tuple[Tensor, Tensor]:
    """φ(x) and φ'(x) by autograd, elementwise, float64, of the shape of `x`, detached."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        value = function(leaf.clone())  # the clone lets an in-place function through
        if value.shape != x.shape:
            raise ValueError(f"not elementwise: a tensor of shape {tuple(x.shape)} became {tuple(value.shape)}")
        if not value.requires_grad:
            return value.detach().double(), torch.zeros_like(x)
        (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    return value.detach().double(), torch.zeros_like(x) if slope is None else slope


def log_moments(activation: Activation, log_q: Array) -> tuple[Array, Array, Array, Array]:
    """The natural logs of what an activation does to second moments.

    Args:
        activation: φ.
        log_q: natural log of the pre-activations' second moment, any shape; -inf where they are zero.

    Returns:
        Four arrays of the shape of `log_q`: log E[out²]; log of the factor on the total squared gradient,
        E[φ'(√q u)²]; log of the kurtosis of the derivatives, E[φ'⁴] / E[φ'²]², and of the outputs. For a gate,
        out = a φ(b) with a, b ~ N(0, q) independent: q E[φ²], then E[φ²] + q E[φ'²], and φ' alone for the derivatives'
        kurtosis. -inf is a moment of zero, nan or inf an integral that does not exist (or does not converge).
    """
    table = _TABLES.get(activation)
    if table is None:
        table = _TABLES[activation] = _Table(activation.function, activation.kinks, activation.closed_form)
    value, slope, slope_fourth, value_fourth = table.at(log_q)
    with np.errstate(invalid="ignore"):
        slope_kurtosis, value_kurtosis = slope_fourth - 2.0 * slope, value_fourth - 2.0 * value
    if activation.gated:
        return log_q + value, np.logaddexp(value, log_q + slope), slope_kurtosis, value_kurtosis + math.log(3.0)
    return value, slope, slope_kurtosis, value_kurtosis


def second_moments(activation: Activation, q: float) -> tuple[float, float]:
    """E[φ(√q u)²] and E[φ'(√q u)²] at one q > 0, integrated and not interpolated (relative error about 1e-9)."""
    if activation.closed_form is not None:
        value, slope, *_ = activation.closed_form(np.array([q]))
        return float(value[0]), float(slope[0])
    logs = _integrate(activation.function, activation.kinks, np.array([math.log(q)]))
    return float(np.exp(logs[0, 0])), float(np.exp(logs[1, 0]))


def log_sum_exp(terms: Array) -> Array:
    """log Σ exp over the last axis; -inf where all terms are."""
    peak = terms.max(axis=-1, keepdims=True)
    safe = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        total: Array = np.log(np.exp(terms - safe).sum(axis=-1)) + safe[..., 0]
    return total


class _Table:
    """Moments on a grid of log q, computed where they are first asked for."""

    def __init__(self, function: Elementwise, kinks: tuple[float, ...], closed_form: ClosedForm | None) -> None:
        # Not the Activation itself: it is the weak key under which this table is kept.
        self.function, self.kinks, self.closed_form = function, kinks, closed_form
        self.half = DECADES * NODES_PER_DECADE
        nodes = 2 * self.half + 1
        self.known = np.zeros(nodes, dtype=bool)
        self.finite = True  # all that is known
        self.logs = np.zeros((4, nodes))
        self.cubics = np.zeros((4, 4, nodes))  # coefficients, by power, between each node and the next
        self.at_zero: Array | None = None

    def at(self, log_q: Array) -> Array:
        """Shape (4, *log_q.shape): cubic interpolation in log q, beyond the grid the power law of its last nodes."""
        position = log_q * (NODES_PER_DECADE / LOG10) + self.half
        low, high = float(position.min()), float(position.max())
        if not (low >= 1.0 and high < 2 * self.half - 1):  # nan is not
            return self._at_the_ends(position)
        first = position.astype(np.int64)
        self._learn(int(low) - 1, int(high) + 3, first - 1)
        return self._cubic(first, position - first)

    def _cubic(self, cell: npt.NDArray[np.int64], part: Array) -> Array:
        """The cubic through four nodes, at `part` of the way from the second of them, number `cell`, to the third."""
        one, two, three, four = self.cubics.take(cell, axis=2)
        if self.finite:
            return ((four * part + three) * part + two) * part + one  # type: ignore[no-any-return]
        with np.errstate(invalid="ignore"):
            result = ((four * part + three) * part + two) * part + one
        # Beside a node of -inf (a moment of exactly zero) the polynomial is nan; the nearest node is the answer.
        return np.where(np.isfinite(result), result, self.logs[:, np.rint(cell + part).astype(np.int64)])

    def _at_the_ends(self, position: Array) -> Array:
        """`at` where some positions on the grid lie beside it, at -inf (q is zero), or in its first or last cell."""
        zero = np.isneginf(position)
        position = np.where(zero, float(self.half), position)
        inside = np.minimum(np.maximum(position, 0.0), 2.0 * self.half)
        cell = np.minimum(np.maximum(np.floor(inside).astype(np.int64), 1), 2 * self.half - 2)
        self._learn(int(cell.min()) - 1, int(cell.max()) + 3, cell - 1)
        result = self._cubic(cell, inside - cell)
        beyond = position - inside
        if beyond.any():
            result = result + self._power_law(beyond)
        if zero.any():
            result = np.where(zero, self._zero().reshape((4,) + (1,) * zero.ndim), result)
        return result

    def _power_law(self, beyond: Array) -> Array:
        """How far log moments change over `beyond` grid steps below the grid (negative) or above it."""
        end = 2 * self.half
        self._compute(np.array([0, 1, end - 1, end]))
        with np.errstate(invalid="ignore"):
            low = np.nan_to_num(self.logs[:, 1] - self.logs[:, 0])
            high = np.nan_to_num(self.logs[:, end] - self.logs[:, end - 1])
        shape = (4,) + (1,) * beyond.ndim
        slope: Array = np.where(beyond < 0, low.reshape(shape), high.reshape(shape))
        return slope * beyond

    def _zero(self) -> Array:
        """Log moments where the pre-activation is exactly zero."""
        if self.at_zero is None:
            value, slope = value_and_slope(self.function, torch.zeros(1, dtype=torch.float64))
            with np.errstate(divide="ignore"):
                logs = np.log([abs(value.item()), abs(slope.item())])
            self.at_zero = np.array([2 * logs[0], 2 * logs[1], 4 * logs[1], 4 * logs[0]])
        return self.at_zero

    def _learn(self, start: int, stop: int, first: npt.NDArray[np.int64]) -> None:
        """Make sure that nodes first … first + 3 are known, and in the same go some neighbours that will be next."""
        if self.known[start:stop].all():
            return
        wanted = np.unique(np.concatenate([np.ravel(first) + offset for offset in range(-2, 6)]))
        wanted = wanted[(wanted >= 0) & (wanted <= 2 * self.half)]
        self._compute(wanted)

    def _compute(self, nodes: npt.NDArray[np.int64]) -> None:
        nodes = nodes[~self.known[nodes]]
        if not len(nodes):
            return
        for start in range(0, len(nodes), _BATCH):
            batch = nodes[start : start + _BATCH]
            log_q: Array = (batch - self.half).astype(np.float64) * (LOG10 / NODES_PER_DECADE)
            if self.closed_form is not None:
                with np.errstate(divide="ignore"):
                    self.logs[:, batch] = np.log(np.array(self.closed_form(np.exp(log_q))))
            else:
                self.logs[:, batch] = _integrate(self.function, self.kinks, log_q)
            self.known[batch] = True
            self.finite = self.finite and bool(np.isfinite(self.logs[:, batch]).all())
        with np.errstate(invalid="ignore"):
            before, here, after, behind = (self.logs[:, at : at - 3 or None] for at in range(4))
            self.cubics[0] = self.logs
            self.cubics[1, :, 1:-2] = after - before / 3.0 - here / 2.0 - behind / 6.0
            self.cubics[2, :, 1:-2] = (before + after) / 2.0 - here
            self.cubics[3, :, 1:-2] = (behind - before) / 6.0 + (here - after) / 2.0


_TABLES: WeakKeyDictionary[Activation, _Table] = WeakKeyDictionary()


def _integrate(function: Elementwise, kinks: tuple[float, ...], log_q: Array) -> Array:
    """Shape (4, len(log_q)): the log moments by Gauss-Legendre panels; nan where two rules disagree to the end."""
    result = np.full((4, len(log_q)), np.nan)
    left = np.arange(len(log_q))
    borders = panels(np.exp(0.5 * log_q), kinks)
    for _ in range(_HALVINGS + 1):
        coarse = _quadrature(function, log_q[left], borders, _COARSE)
        fine = _quadrature(function, log_q[left], borders, _FINE)
        with np.errstate(invalid="ignore"):
            agree = ((np.abs(fine - coarse) <= _AGREEMENT) | (fine == coarse)).all(axis=0)
        result[:, left[agree]] = fine[:, agree]
        left = left[~agree]
        if not len(left) or np.isnan(fine).any():
            break  # converged, or φ is undefined somewhere on the line, which no refinement will mend
        rest = borders[~agree]
        middle = 0.5 * (rest[:, 1:] + rest[:, :-1])
        borders = np.sort(np.concatenate([rest, middle], axis=1), axis=1)
    return result


def panels(scale: Array, kinks: tuple[float, ...]) -> Array:
    """Panel borders in u, one row per √q: those of the Gaussian (u of order 1), of φ (x = √q u of order 1), the kinks.

    Geometric panels join the two scales where they lie far apart. Borders outside the range fall onto its ends and
    make panels of no length.
    """
    feature = 2.0 ** np.arange(-7, 8)
    joining = 0.5 ** np.arange(1, min(max(math.frexp(float(scale.max()))[1] + 8, 2), 57))  # down to where x is 2^-8
    gaussian = np.concatenate([joining, np.arange(1.0, 8.0, 0.5), np.arange(8.0, _RANGE, 4.0), [_RANGE]])
    rows = np.ones_like(scale)[:, None]
    in_x = np.concatenate([feature, -feature, np.asarray(kinks, dtype=np.float64)])[None, :] / scale[:, None]
    borders = np.concatenate([rows * 0.0, rows * gaussian, rows * -gaussian, in_x], axis=1)
    clipped: Array = np.sort(np.clip(borders, -_RANGE, _RANGE), axis=1)
    return clipped


@lru_cache(maxsize=4)
def legendre(nodes: int) -> tuple[Array, Array]:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return points, weights


def _quadrature(function: Elementwise, log_q: Array, borders: Array, nodes: int) -> Array:
    """Shape (4, len(log_q)): the logs of the moments by one rule."""
    points, weights = legendre(nodes)
    half = 0.5 * np.diff(borders, axis=1)[:, :, None]
    u = (borders[:, :-1, None] + half * (1.0 + points)).reshape(len(log_q), -1)
    with np.errstate(divide="ignore"):
        log_weight = np.log(half * weights).reshape(len(log_q), -1) - 0.5 * u**2 - 0.5 * math.log(2 * math.pi)
    x = torch.from_numpy(u * np.exp(0.5 * log_q)[:, None])
    value, slope = value_and_slope(function, x)
    logs = torch.log(torch.stack([value, slope]).abs()).numpy()[[0, 1, 1, 0]]
    if np.isnan(logs[:, np.isfinite(log_weight)]).any():
        # Where φ is not defined on part of the line (a square root, a logarithm), it has no moments.
        return np.where(np.isnan(logs).any(axis=2), np.nan, 0.0)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isfinite(log_weight), _POWERS * logs + log_weight, -np.inf)
    result = log_sum_exp(terms)
    # A tail that still counts where the Gaussian ends means a function that grows too fast for its moments.
    ends = np.abs(u) > _RANGE - 1.0
    tail = log_sum_exp(np.where(ends, terms, -np.inf))
    return np.where(tail > result - 20.0, np.inf, result)
