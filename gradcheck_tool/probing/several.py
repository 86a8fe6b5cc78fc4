"""The profiles of several runs, one for each batch and seed → one profile: means over the runs, how far they spread,
and the verdict that most of them give.

Norms are averaged as logarithms. The gradient of a deep net is a product of many factors, so that its logarithm is what
spreads about a mean (Hanin and Nica 2020, "Products of many large random matrices and gradients in deep neural
networks"), and the mean change along a chain is the change of the means.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from gradcheck_tool.probing.changes import Span, decades_between
from gradcheck_tool.results import GradientProfile, LayerGradient, Verdict

WORST_FIRST: tuple[Verdict, ...] = (
    "non-finite",
    "no-gradient",
    "dead",
    "vanishing",
    "exploding",
    "saturated",
    "healthy",
)
"""In the order in which one run is judged."""

_OF_LOGARITHMS = frozenset(
    {"grad_norm", "output_grad_norm", "weight_norm", "input_scale", "input_spread", "last_spread"}
)
"""The figures whose mean is the geometric one."""


def summarize(runs: Sequence[GradientProfile], batches: int, seeds: int) -> GradientProfile:
    """One profile for all `runs`, at least one, of one model: `batches` times `seeds`, the first of both first. One run
    is its own summary.

    A figure is the mean over the runs that have it; a norm that is zero or infinite in a run is so in the mean. The
    spread is the sample standard deviation of the logarithms, in decades; None where fewer than two runs, or not all of
    them, have one.
    """
    first = runs[0]
    if len(runs) == 1:
        return first
    over, changes = _largest_change(runs)
    change = _mean("measured_decades", changes)
    verdict, reasons = _verdict(runs, change)
    sizes = {run.batch_size for run in runs}
    return replace(
        first,
        verdict=verdict,
        reasons=reasons,
        batch_size=first.batch_size if len(sizes) == 1 else None,
        batches=batches,
        seeds=seeds,
        layers=_layers(runs),
        measured_decades=change,
        measured_over=over,
        measured_decades_std=_deviation(changes),
        **{name: _mean(name, [getattr(run, name) for run in runs]) for name in _AVERAGED},
    )


_AVERAGED = ("output", "rank", "steps", "stepped", "learning")


def _layers(runs: Sequence[GradientProfile]) -> tuple[LayerGradient, ...]:
    """Every layer that ran in any of the runs."""
    found: dict[str, list[LayerGradient]] = {}
    for run in runs:
        for layer in run.layers:
            found.setdefault(layer.name, []).append(layer)
    return tuple(
        replace(
            _mean("layers", same),
            grad_norm_decades_std=_deviation([_decades(layer.grad_norm) for layer in same]),
            output_grad_norm_decades_std=_deviation([_decades(layer.output_grad_norm) for layer in same]),
        )
        for same in found.values()
    )


def _mean(name: str, values: Sequence[Any]) -> Any:
    """The mean of a field `name` over the runs: of dataclasses, field by field; of truth values, whether all are true;
    of counts, the largest; of words, the first. None where no run has one."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    first = found[0]
    if all(value == first for value in found):  # exact, where logarithms would round
        return first
    if is_dataclass(first) and not isinstance(first, type):
        means = {
            entry.name: _mean(entry.name, [getattr(value, entry.name) for value in found]) for entry in fields(first)
        }
        return replace(first, **means)
    if isinstance(first, bool):
        return all(found)
    if isinstance(first, int):
        return max(found)
    if not isinstance(first, float):
        return first
    if name in _OF_LOGARITHMS:
        return 10.0 ** (sum(_log10(value) for value in found) / len(found))
    return sum(found) / len(found)


def _log10(value: float) -> float:
    return math.log10(value) if value else -math.inf


def _decades(norm: float | None) -> float | None:
    return None if norm is None else _log10(norm)


def _deviation(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    if len(found) < 2 or not all(map(math.isfinite, found)):
        return None
    return statistics.stdev(found)


def _largest_change(runs: Sequence[GradientProfile]) -> tuple[Span | None, list[float | None]]:
    """Of the spans that the runs name, the one with the largest mean change, and the change of each run over it."""
    spans = dict.fromkeys(run.measured_over for run in runs if run.measured_over and run.measured_decades is not None)
    changes = {span: [_change(run, span) for run in runs] for span in spans}
    if not changes:
        return None, []
    over = max(changes, key=lambda span: abs(_mean("measured_decades", changes[span])))
    return over, changes[over]


def _change(run: GradientProfile, span: Span) -> float | None:
    if run.measured_over == span:
        return run.measured_decades
    norms = {layer.name: layer.output_grad_norm for layer in run.layers}
    first, last = (norms.get(name) for name in span)
    return decades_between(first, last) if first and last else None  # why one is zero is not known here


def _verdict(runs: Sequence[GradientProfile], change: float | None) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict of most runs, at a tie the worse one; with the reasons of the run that is nearest to the mean change,
    and where the runs disagree, how many say what."""
    counts = Counter(run.verdict for run in runs)
    ranked = sorted(counts, key=lambda verdict: (-counts[verdict], WORST_FIRST.index(verdict)))
    same = [run for run in runs if run.verdict == ranked[0]]
    reasons = [*min(same, key=lambda run: _distance(run.measured_decades, change)).reasons]
    if len(ranked) > 1:
        reasons.append(f"{ranked[0]} in {counts[ranked[0]]} of {len(runs)} runs")
    for other in ranked[1:]:
        why = next(run.reasons for run in runs if run.verdict == other)[:1] if other != "healthy" else ()
        reasons.append(": ".join((f"{other} in {counts[other]} of {len(runs)} runs", *why)))
    return ranked[0], tuple(reasons)


def _distance(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return math.inf
    return 0.0 if one == other else abs(one - other)
