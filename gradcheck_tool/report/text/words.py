"""The words that the text reports share: figures, folds, names and tables, each a small pure function."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
from tabulate import tabulate

from gradcheck_tool.results import InputSpec, Target
from gradcheck_tool.wording import multiple
from gradcheck_tool.wording import size as dimensions

LONGEST_NAME = 24
MOST_ROWS = 24
MOST_ITEMS = 5
NOTHING = "-"

_ORIGINS = {
    "option": "as given",
    "file": "from the example in the file",
    "model": "carried by the model",
    "inferred": "inferred",
}
_TENSES = {
    "present": ("grows", "shrinks", "keeps", "is not"),
    "past": ("grew", "shrank", "kept", "was not"),
    "infinitive": ("to grow", "to shrink", "to keep", "not to be"),
}


@dataclass(frozen=True)
class Style:
    """How to print: with escape codes or without; -1 quiet, 0 normal, 1 everything."""

    color: bool = False
    verbosity: int = 0

    @property
    def quiet(self) -> bool:
        return self.verbosity < 0

    @property
    def verbose(self) -> bool:
        return self.verbosity > 0

    def paint(self, text: str, color: str | None = None, bold: bool = False) -> str:
        """`text` in a colour of click's, where colours are wanted."""
        return click.style(text, fg=color, bold=bold or None) if self.color else text


def fold(decades: float, tense: str = "present") -> str:
    """A change in decades, in words: -6.5 is "shrinks 3,200,000-fold", to two figures."""
    grow, shrink, keep, be = _TENSES[tense]
    if math.isnan(decades):
        return f"{be} a number"
    if math.isinf(decades):
        return f"{grow} beyond all numbers" if decades > 0 else f"{shrink} to nothing"
    if abs(decades) < 0.02:  # under 5 percent
        return f"{keep} its size"
    return f"{grow if decades > 0 else shrink} {multiple(decades, 9)}-fold"


def decades_figure(decades: float | None) -> str:
    """A change in decades: `-6.50`, or `-` where there is none."""
    return NOTHING if decades is None else f"{decades + 0.0:.2f}"


def with_spread(figure: str, std: float | None) -> str:
    """A figure and its standard deviation: `-6.50 ± 0.12`; the figure alone where there is none."""
    return figure if std is None else f"{figure} ± {std:.2f}"


def norm_figure(value: float | None) -> str:
    """A norm: "3.12e-07", "inf", "nan", or "-" where there is none."""
    return NOTHING if value is None else f"{value:.2e}"


def short_figure(value: float | None) -> str:
    """A figure of about 1: "0.12", or "-" where there is none."""
    return NOTHING if value is None else f"{value:.2g}"


def count(number: int, noun: str) -> str:
    """How many: `1 chain`, `2 chains`, `1,000 chains`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def layer_name(name: str) -> str:
    """`name`, or words where it is empty: so `named_modules()` calls a model that is a layer itself."""
    return name or "(the model)"


def span(names: Sequence[str], style: Style, noun: str = "block") -> str:
    """The layers of a chain: `fc1 … fc20 (20 blocks)`; up to three names, or all of them when verbose, in full."""
    if len(names) <= 3 or style.verbose:
        return ", ".join(map(layer_name, names))
    return f"{layer_name(names[0])} … {layer_name(names[-1])} ({count(len(names), noun)})"


def clip(name: str, style: Style) -> str:
    """A layer's name for a table: the end of a long one tells more than its beginning."""
    name = layer_name(name)
    return name if style.verbose or len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, indent: str = "  ") -> Iterator[str]:
    """The lines of a table: the first `left` columns flush left, figures flush right."""
    # The head goes in as a row: tabulate pads real headers by two columns, which long tables cannot afford.
    rules = ["-" * max(map(len, column)) for column in zip(head, *rows, strict=True)]
    align = ["left"] * left + ["right"] * (len(head) - left)
    text = tabulate([head, rules, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
    return (indent + line for line in text.splitlines())


def without_middle(rows: Sequence[Sequence[str]], style: Style) -> list[Sequence[str]]:
    """The first and the last rows of a long table, and how many are missing between them."""
    if style.verbose or len(rows) <= MOST_ROWS:
        return list(rows)
    head, tail = MOST_ROWS // 2, MOST_ROWS // 2 - 1
    gap = [f"… {len(rows) - head - tail} more (-v) …"] + [""] * (len(rows[0]) - 1)
    return [*rows[:head], gap, *rows[-tail:]]


def listed(title: str, items: Sequence[str], style: Style) -> Iterator[str]:
    """A titled list: the first few items and a count, or all of them when verbose. Nothing for no items."""
    if not items:
        return
    yield title
    shown = items if style.verbose or len(items) <= MOST_ITEMS + 1 else items[:MOST_ITEMS]
    yield from (f"  {item}" for item in shown)
    if len(shown) < len(items):
        yield f"  … and {len(items) - len(shown)} more (-v lists them)"


def input_lines(inputs: Sequence[InputSpec], style: Style) -> Iterator[str]:
    """Which inputs were used and where they came from: always said."""
    if not inputs:
        yield "inputs: none, the model takes no tensors"
        return
    shown = inputs if style.verbose or len(inputs) <= MOST_ITEMS + 1 else inputs[:MOST_ITEMS]
    for entry in shown:
        size = dimensions(entry.shape, "a single number")
        note = f" ({entry.note})" if entry.note else ""
        name = "" if entry.name == "input" else f" {entry.name}"  # torch.nn's own argument is called so
        yield f"input{name}: {size} {entry.dtype}, {_ORIGINS[entry.origin]}{note}"
    if len(shown) < len(inputs):
        yield f"… and {count(len(inputs) - len(shown), 'more input')} (-v lists them)"


def subject_name(target: Target) -> str:
    """What was looked at: the TARGET as typed, with the object's name where that says more."""
    return target.spec if target.object in target.spec else f"{target.spec} ({target.object})"
