"""The text of what `fix --auto` tried, and of what it took."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_tool.report.text.words import MOST_ROWS, Style, decades_figure, table
from gradcheck_tool.results import FixResult, Trial

_HEAD = ("tried", "changes", "verdict", "explained", "decades", "parameters", "step time", "memory")


def tried_lines(result: FixResult, name: str, style: Style) -> Iterator[str]:
    """A row for each remedy that was tried, then what the one that heals changes, and what it costs besides."""
    if not result.tried:
        return
    yield f"{_remedies(len(result.tried))} tried on {name}, the smallest first"
    yield from table(_HEAD, [_row(trial) for trial in result.tried])
    yield "  costs are measured against the model as it is, in training"
    if any(trial.explained is not None for trial in result.tried):
        yield "  explained: the share of the loss that the inputs explain after some steps of Adam on the batch"
    yield ""
    taken = next((trial for trial in result.tried if trial.remedy == result.remedy), None)
    if taken is not None:
        yield f"{taken.remedy}: {taken.title}"
        yield from (f"  {step}" for step in _in_short(result.steps, style))
        yield from (f"  note: {sentence}" for sentence in taken.breaks)
        yield ""


def _remedies(number: int) -> str:
    return "1 remedy" if number == 1 else f"{number} remedies"


def _row(trial: Trial) -> list[str]:
    ratios = [f"x {ratio:.2f}" if ratio is not None else "-" for ratio in (trial.step_time_ratio, trial.memory_ratio)]
    decades = decades_figure(trial.measured_decades)
    explained = "-" if trial.explained is None else f"{trial.explained:.1%}"
    return [trial.remedy, str(trial.changes), trial.verdict, explained, decades, f"{trial.parameters:+,}", *ratios]


def _in_short(steps: tuple[str, ...], style: Style) -> list[str]:
    if style.verbose or len(steps) <= MOST_ROWS:
        return list(steps)
    return [*steps[:3], f"… {len(steps) - 5} more (-v) …", *steps[-2:]]


def untreated(result: FixResult, style: Style) -> str:
    """Why `--auto` changes nothing, in one sentence."""
    verdict = result.before.verdict if result.before is not None else "healthy"
    if verdict == "healthy":
        return f"{style.paint('Nothing to fix', 'green', bold=True)}: the model is healthy."
    if not result.tried:
        return f"{style.paint('Not improved', 'red', bold=True)}: the model is {verdict}, and no remedy fits it."
    return (
        f"{style.paint('Not improved', 'red', bold=True)}: the model is {verdict}, and none of the "
        f"{_remedies(len(result.tried))} tried heals it."
    )
