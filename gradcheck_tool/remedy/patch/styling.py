"""How numbers, factors and long lines are spelled in the lines that are added to a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_NARROW, _WIDE = 88, 120


@dataclass(frozen=True)
class Style:
    """How a file writes: `init` is its name of torch.nn.init, `name` gives a variable of about the name asked for that
    is free there, `indent` is that of one level, `width` the characters that a line may have."""

    init: str
    name: Callable[[str], str]
    indent: str
    width: int


def width_of(text: str) -> int:
    """The characters that a line of a file may have: as many as its longest has, within reason."""
    return max(_NARROW, min(max(map(len, text.splitlines()), default=0), _WIDE))


def factor(text: str) -> str:
    """An expression as it stands in front of a `*`."""
    return f"({text})" if " if " in text or text.startswith("-") else text


def number(value: float) -> str:
    """As a person would write it, to 1/2000."""
    if abs(value - math.sqrt(2)) < 1e-6:
        return "2**0.5"
    return repr(float(f"{value:.3f}")) if value >= 0.1 or value == 0 else repr(float(f"{value:.4g}"))


def wrapped(line: str, style: Style) -> list[str]:
    """A line, or where it is too long the elements of its list on lines of their own, as many to a line as fit."""
    if len(line) <= style.width:
        return [line]
    start = min(at for at in (line.find("(", line.find(" in ")), line.find("[")) if at >= 0)
    end = max(line.rfind(")"), line.rfind("]"))
    parts, depth = [""], 0
    for character in line[start + 1 : end]:
        depth += (character in "([") - (character in ")]")
        parts[-1] += character
        if character == "," and depth == 0:
            parts.append("")
    if len(parts) == 1:  # a comprehension
        return [line]
    rows = [""]
    for part in map(str.strip, parts):
        if rows[-1] and (len(rows[-1]) + len(part) >= style.width - len(style.indent) or part.startswith("(")):
            rows.append("")
        rows[-1] += f" {part}" if rows[-1] else part
    if rows[0].startswith("("):  # one to a line: with a comma, as formatters have it
        rows[-1] += ","
    return [line[: start + 1], *(style.indent + row for row in rows), line[end:]]
