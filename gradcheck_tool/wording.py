"""Small things that messages and reports say alike: a change in decades as a multiple, sizes, long lists of names."""

from __future__ import annotations

import math
from collections.abc import Sequence


def multiple(decades: float, plain_digits: int) -> str:
    """10 to the power |decades|, to two figures: "3.2", "1,600"; from 10^`plain_digits` on with an exponent: "2e12"."""
    exponent = math.floor(abs(decades))
    leading = round(10 ** (abs(decades) - exponent), 1)
    if leading >= 10:
        leading, exponent = 1.0, exponent + 1
    if exponent == 0:
        return f"{leading:g}"
    return f"{leading * 10**exponent:,.0f}" if exponent < plain_digits else f"{leading:g}e{exponent}"


def size(shape: Sequence[int], scalar: str = "scalar") -> str:
    """`32x784`; `scalar` for a tensor without dimensions."""
    return "x".join(map(str, shape)) or scalar


def in_short(names: Sequence[str], more: str = "more") -> str:
    """`a, b, c`, or of more than three `a, b and 5 more`."""
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} {more}"
