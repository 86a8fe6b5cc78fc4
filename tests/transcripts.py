"""Text that a command printed against text that was kept: words exactly, figures to the rounding of another machine."""

from __future__ import annotations

import math
import re

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def same_line(shown: str, real: str) -> bool:
    """Whether two lines agree: words exactly, spaces but for their number, figures to 2 % or their last digit."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", real).split():
        return False
    return all(same_figure(*pair) for pair in zip(NUMBER.findall(shown), NUMBER.findall(real), strict=True))


def same_figure(shown: str, real: str) -> bool:
    last_digit = 0.0 if "e" in shown else 10.0 ** -len(shown.partition(".")[2]) if "." in shown else 0.0
    return math.isclose(
        float(shown.replace(",", "")), float(real.replace(",", "")), rel_tol=0.02, abs_tol=1.01 * last_digit
    )


def shows(shown: str, real: str) -> bool:
    """Whether the lines of `shown` are those of `real`, where `...` stands for any number of lines."""
    wanted, got = shown.rstrip("\n").splitlines(), real.rstrip("\n").splitlines()
    reachable = {0}  # how many lines of `real` may be used up
    for line in wanted:
        if line == "...":
            reachable = set(range(min(reachable, default=len(got) + 1), len(got) + 1))
        else:
            reachable = {index + 1 for index in reachable if index < len(got) and same_line(line, got[index])}
    return len(got) in reachable
