"""Numbers recorded at several batch sizes → the formula in the batch size that gives them.

Whole numbers: p·B, p·B + c, ⌊p·B / q⌋ + c, and ⌊(a·B² + b·B) / 2⌋ (pairs of samples). Others: c·Bᵏ for k = ±1, ±½.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Step = tuple[Callable[..., Any], tuple[Any, ...]]
"""(function, constants): one step of a formula, `function(value, *constants)`."""

_DENOMINATORS = (1, 2, 3, 4, 8, 16)
_POWERS = (1.0, -1.0, 0.5, -0.5)


@dataclass(frozen=True)
class Formula:
    """A formula in the batch size B: its `steps`, begun at B. `certain` where two batch sizes are enough to tell it
    from any other that code would contain."""

    steps: tuple[Step, ...]
    certain: bool

    def __call__(self, batch: int) -> Any:
        value: Any = batch
        for function, constants in self.steps:
            value = function(value, *constants)
        return value


def fit(values: Sequence[Any], batches: Sequence[int]) -> Formula | None:
    """The simplest formula that gives `values[i]` at batch size `batches[i]`; None where none of these forms does."""
    if all(type(value) is int for value in values):
        return _whole(values, batches)
    if all(type(value) is float and math.isfinite(value) and value != 0.0 for value in values):
        return _power(values, batches)
    return None


def _whole(values: Sequence[int], batches: Sequence[int]) -> Formula | None:
    slope = Fraction(values[-1] - values[0], batches[-1] - batches[0])
    if slope <= 0:
        return None
    found = []
    for denominator in _DENOMINATORS:
        for factor in {math.floor(slope * denominator), math.ceil(slope * denominator)} - {0}:
            offset = values[0] - factor * batches[0] // denominator
            steps: list[Step] = [(operator.mul, (factor,))] if factor != 1 else []
            steps += [(operator.floordiv, (denominator,))] if denominator != 1 else []
            steps += [(operator.add, (offset,))] if offset else []
            formula = Formula(tuple(steps), certain=denominator == 1 and not offset)
            if all(formula(batch) == value for value, batch in zip(values, batches, strict=True)):
                found.append(((offset != 0, denominator, abs(offset), factor), formula))
    return min(found, key=lambda pair: pair[0])[1] if found else _pairs(values, batches)


def quadratic(batch: Any, twice_a: int, twice_b: int) -> Any:
    """⌊(a·B² + b·B) / 2⌋: the number of pairs of samples, and its like. Generated code calls it."""
    return (twice_a * batch + twice_b) * batch // 2


def _pairs(values: Sequence[int], batches: Sequence[int]) -> Formula | None:
    first, second = batches[0], batches[1]
    twice_a = 2 * (Fraction(values[1], second) - Fraction(values[0], first)) / (second - first)
    twice_b = 2 * Fraction(values[0], first) - twice_a * first
    if twice_a.denominator != 1 or twice_b.denominator != 1:
        return None
    formula = Formula(((quadratic, (int(twice_a), int(twice_b))),), certain=False)
    fits = all(formula(batch) == value for value, batch in zip(values, batches, strict=True))
    return formula if fits else None


def divided_by(batch: Any, constant: float) -> Any:
    """c / B. Generated code calls it."""
    return constant / batch


def _power(values: Sequence[float], batches: Sequence[int]) -> Formula | None:
    for power in _POWERS:
        constant = values[0] / batches[0] ** power
        if power == -1.0:
            steps: tuple[Step, ...] = ((divided_by, (values[0] * batches[0],)),)
        else:
            steps = ((operator.pow, (power,)), (operator.mul, (constant,)))
        formula = Formula(steps, certain=False)
        if all(math.isclose(formula(b), value, rel_tol=1e-12) for value, b in zip(values, batches, strict=True)):
            return formula
    return None
