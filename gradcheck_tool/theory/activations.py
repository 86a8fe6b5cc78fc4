"""Every elementwise activation that torch has, by the name of its module or function, ready for `theory.predict`.

A name (and the constants of the call) goes in, an `Activation` with its kinks comes out. For any other elementwise
callable the kinks are found numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradcheck_tool.theory.gaussian import Activation, Array, ClosedForm, Elementwise, value_and_slope


def activation_named(name: str, *constants: Any, **options: Any) -> Activation | None:
    """The activation that torch calls `name`.

    Args:
        name: of a module class (`"LeakyReLU"`), function (`"leaky_relu"`) or method (`"relu_"`); case and underscores
            do not matter.
        constants: the positional arguments after the tensor, as in `F.leaky_relu(x, 0.2)`.
        options: the keyword arguments of the function; `inplace` is ignored. For PReLU the slope or slopes
            (`weight`); for RReLU `training` too, which defaults to True: the model is read as it will be trained.

    Returns:
        None where torch has no such activation, or where it does not take these arguments.
    """
    row = _TABLE.get(_key(name))
    if row is None:
        return None
    options.pop("inplace", None)
    try:
        return _build(row, constants, tuple(sorted(options.items())))
    except TypeError:
        return None


def activation_of(function: Callable[..., Tensor], name: str, *constants: Any, **options: Any) -> Activation:
    """Any elementwise callable as an activation: `function(x, *constants, **options)`, its kinks found numerically.

    Raises:
        ValueError: the function changes the shape of its input.
        Exception: whatever `function` raises.
    """
    bound = partial(_call, function, constants, options)
    return Activation(name, bound, find_kinks(bound))


def find_kinks(function: Elementwise) -> tuple[float, ...]:
    """The points in ±1e6 where φ or φ' jumps, in ascending order, to the last bit or so.

    Every interval of a fine grid is halved again and again, always keeping the half across which φ and φ' change more;
    what still changes when the interval has shrunk to nothing is a jump. Two kinks closer than the grid (0.01 near 0)
    count as one.
    """
    positive = np.concatenate([np.arange(0, 800) * 0.01 + 0.005, np.geomspace(8.1, 1e6, 600)])
    grid = np.concatenate([-positive[::-1], positive])
    low, high = torch.from_numpy(grid[:-1].copy()), torch.from_numpy(grid[1:].copy())
    at_low, at_high = torch.stack(value_and_slope(function, low)), torch.stack(value_and_slope(function, high))
    for _ in range(64):
        middle = 0.5 * (low + high)
        at_middle = torch.stack(value_and_slope(function, middle))
        left = (at_middle - at_low).abs().sum(0) >= (at_high - at_middle).abs().sum(0)
        high, low = torch.where(left, middle, high), torch.where(left, low, middle)
        at_high, at_low = torch.where(left, at_middle, at_high), torch.where(left, at_low, at_middle)
    size = torch.maximum(at_high.abs(), at_low.abs())
    jump = ((at_high - at_low).abs() > 1e-6 * (1.0 + size)).any(0)
    found = (0.5 * (low + high))[jump].tolist()
    # The grid may straddle zero by less than the last bit of its neighbours.
    return tuple(0.0 if abs(point) < 1e-12 else point for point in found)


def compose(inner: Activation, outer: Activation, factor: float = 1.0) -> Activation:
    """outer(factor · inner(x)), for two activations in a row. Neither may be gated."""
    if inner.gated or outer.gated:
        raise ValueError("a gate cannot be composed with another activation")

    def function(x: Tensor) -> Tensor:
        return outer.function(factor * inner.function(x))

    return Activation(f"{outer.name}({inner.name})", function, find_kinks(function))


def _call(function: Callable[..., Tensor], constants: tuple[Any, ...], options: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, *constants, **options)


def _key(name: str) -> str:
    return name.replace("_", "").lower()


@dataclass(frozen=True)
class _Row:
    """One function, and where its kinks are, given its constants (None: they have to be found)."""

    name: str
    function: Callable[..., Tensor]
    kinks: Callable[..., Sequence[float]] | None
    gated: bool = False
    closed_form: ClosedForm | None = None


def _build(row: _Row, constants: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Activation:
    if any(isinstance(constant, Tensor) for constant in [*constants, *(value for _, value in options)]):
        return _build_fresh(row, constants, options)  # not kept: the tensor may change, and is the user's
    try:
        return _build_hashed(row, constants, options)
    except TypeError:  # unhashable constants: a list of slopes
        return _build_fresh(row, constants, options)


def _build_fresh(row: _Row, constants: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Activation:
    bound = partial(_call, row.function, constants, dict(options))
    bound(torch.zeros(1, dtype=torch.float64))  # raises TypeError for arguments that the function does not take
    kinks = find_kinks(bound) if row.kinks is None else tuple(sorted(set(row.kinks(*constants, **dict(options)))))
    closed_form = row.closed_form if not constants and not options else None
    return Activation(row.name, bound, kinks, row.gated, closed_form)


_build_hashed = lru_cache(maxsize=256)(_build_fresh)


def _nowhere(*_constants: Any, **_options: Any) -> tuple[float, ...]:
    return ()


def _at(*points: float) -> Callable[..., tuple[float, ...]]:
    return lambda *_constants, **_options: points


def _bounds(min: float | None = None, max: float | None = None) -> list[float]:
    return [float(bound) for bound in (min, max) if bound is not None]


def _clamp(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    return torch.clamp(x, min, max)


def _relu6(x: Tensor, min_val: float = 0.0, max_val: float = 6.0) -> Tensor:
    """nn.ReLU6 has the attributes of the nn.Hardtanh that it is."""
    return torch.clamp(x, min_val, max_val)


def _root_mean_square(slopes: Any) -> float:
    return math.sqrt(torch.as_tensor(slopes, dtype=torch.float64).detach().square().mean().item())


def _prelu(x: Tensor, weight: Any = 0.25) -> Tensor:
    """One slope a channel. Second moments see E[a²] alone, so the root mean square stands for all of them."""
    return F.leaky_relu(x, _root_mean_square(weight))


def _rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = True) -> Tensor:
    """Slopes drawn from U(lower, upper) while training: E[a²] = (l² + lu + u²)/3; their mean in evaluation."""
    squared = (lower**2 + lower * upper + upper**2) / 3 if training else ((lower + upper) / 2) ** 2
    return F.leaky_relu(x, math.sqrt(squared))


def _tanhshrink(x: Tensor) -> Tensor:
    """x − tanh x; by its series near 0, where the difference cancels."""
    small = x.clamp(-0.1, 0.1)
    square = small * small
    series = small * square * (1 / 3 + square * (-2 / 15 + square * (17 / 315 + square * (-62 / 2835))))
    series = series + small * square**5 * (1382 / 155925)
    return torch.where(x.abs() < 0.1, series, x - torch.tanh(x))


def _sine_moments(q: Array) -> tuple[Array, Array, Array, Array]:
    """E[sin²(√q u)] = (1 − e^(−2q))/2, and E[cos²], E[cos⁴], E[sin⁴] likewise from the multiple-angle formulas."""
    twice, four_times = np.exp(-2 * q), np.exp(-8 * q)
    # 3 − 4 e^(−2q) + e^(−8q) cancels to 24 q² where q is small
    sine_fourth = np.where(q < 1e-4, 3 * q**2, (3 - 4 * twice + four_times) / 8)
    return -np.expm1(-2 * q) / 2, (1 + twice) / 2, (3 + 4 * twice + four_times) / 8, sine_fourth


def _cosine_moments(q: Array) -> tuple[Array, Array, Array, Array]:
    sine, cosine, cosine_fourth, sine_fourth = _sine_moments(q)
    return cosine, sine, sine_fourth, cosine_fourth


def _relu_moments(q: Array) -> tuple[Array, Array, Array, Array]:
    """Half of those of the identity, on either side of 0: E[φ²] = q/2, E[φ'²] = E[φ'⁴] = 1/2, E[φ⁴] = 3q²/2."""
    half = np.full_like(q, 0.5)
    return q / 2, half, half, 1.5 * q**2


def _rows() -> dict[str, _Row]:
    by_key: dict[str, _Row] = {}

    def row(
        names: str,
        function: Callable[..., Tensor],
        kinks: Callable[..., Sequence[float]] | None = _nowhere,
        gated: bool = False,
        closed_form: ClosedForm | None = None,
    ) -> None:
        first, *_ = names.split()
        entry = _Row(first, function, kinks, gated, closed_form)
        by_key.update({_key(name): entry for name in names.split()})

    # The modules of torch.nn and the functions of torch.nn.functional
    row("relu", F.relu, _at(0.0), closed_form=_relu_moments)
    row("relu6", _relu6, _at(0.0, 6.0))
    row("leaky_relu", F.leaky_relu, _at(0.0))
    row("prelu", _prelu, _at(0.0))
    row("rrelu", _rrelu, _at(0.0))
    row("elu", F.elu, _at(0.0))
    row("celu", F.celu, _at(0.0))
    row("selu", F.selu, _at(0.0))
    row("gelu", F.gelu)
    row("silu swish", F.silu)
    row("mish", F.mish)
    row("hardtanh", F.hardtanh, lambda min_val=-1.0, max_val=1.0: (min_val, max_val))
    row("hardsigmoid", F.hardsigmoid, _at(-3.0, 3.0))
    row("hardswish", F.hardswish, _at(-3.0, 3.0))
    row("hardshrink", F.hardshrink, lambda lambd=0.5: (-lambd, lambd))
    row("softshrink", F.softshrink, lambda lambd=0.5: (-lambd, lambd))
    row("tanhshrink", _tanhshrink)
    row("threshold", F.threshold, lambda threshold, value: (threshold,))
    row("softplus", F.softplus, lambda beta=1.0, threshold=20.0: (threshold / beta,))
    row("softsign", F.softsign, _at(0.0))
    row("logsigmoid", F.logsigmoid)
    row("sigmoid expit", torch.sigmoid)
    row("tanh", torch.tanh)
    row("glu", lambda b, dim=-1: torch.sigmoid(b), gated=True)
    # Pointwise functions of torch
    row("abs absolute", torch.abs, _at(0.0))
    row("clamp clip", _clamp, _bounds)
    row("clamp_min", _clamp, _bounds)
    row("clamp_max", lambda x, max: _clamp(x, None, max), lambda max: (float(max),))
    row("exp", torch.exp)
    row("exp2", torch.exp2)
    row("expm1", torch.expm1)
    row("square", torch.square)
    row("pow", torch.pow, None)
    row("sin", torch.sin, closed_form=_sine_moments)
    row("cos", torch.cos, closed_form=_cosine_moments)
    row("sinc", torch.sinc)
    row("sinh", torch.sinh)
    row("cosh", torch.cosh)
    row("asinh arcsinh", torch.asinh)
    row("atan arctan", torch.atan)
    row("erf", torch.erf)
    row("erfc", torch.erfc)
    row("sign sgn", torch.sign, _at(0.0))
    # Not defined on the whole line: they have no moments of a centred Gaussian, and predict says so
    row("sqrt", torch.sqrt)
    row("rsqrt", torch.rsqrt)
    row("log", torch.log)
    row("log1p", torch.log1p)
    row("log2", torch.log2)
    row("log10", torch.log10)
    row("reciprocal", torch.reciprocal, _at(0.0))
    row("tan", torch.tan)
    row("acosh arccosh", torch.acosh)
    row("asin arcsin", torch.asin)
    row("acos arccos", torch.acos)
    row("atanh arctanh", torch.atanh)
    row("logit", torch.logit)
    return by_key


_TABLE = _rows()
ACTIVATION_NAMES: tuple[str, ...] = tuple(sorted({entry.name for entry in _TABLE.values()}))
"""One name each of the activations that `activation_named` knows."""
