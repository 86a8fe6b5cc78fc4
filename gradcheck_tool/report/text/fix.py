"""The text of a fix: the plan, gradient norms before and after, whether it helped, what was skipped, and the diff."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gradcheck_tool.report.text.diff import diff_text
from gradcheck_tool.report.text.probe import how_measured, verdict_word
from gradcheck_tool.report.text.tried import tried_lines, untreated
from gradcheck_tool.report.text.words import (
    MOST_ROWS,
    Style,
    clip,
    decades_figure,
    fold,
    input_lines,
    listed,
    norm_figure,
    span,
    subject_name,
    table,
    without_middle,
)
from gradcheck_tool.results import FixResult, GradientProfile, LayerGradient

_ROUNDING = 1e-5
"""Of float32, over the layers of a network; in half precision more is lost, and said."""


def fix_lines(result: FixResult, style: Style) -> Iterator[str]:
    """Line by line; when quiet, the outcome alone."""
    name = subject_name(result.target)
    if style.quiet:
        yield f"{name}: {_outcome(result, style)}"
        yield from _refused(result)
        return
    yield from tried_lines(result, name, style)
    yield from _plan(result, name, style)
    if result.plan or result.steps:
        yield from _before_and_after(result, style)
    if result.function_change is not None:
        yield f"function {_kept(result.function_change)}"
    yield _outcome(result, style)
    yield from (f"advice: {sentence}" for sentence in result.advice)
    yield from _skipped(result, style)
    yield ""
    yield from input_lines(result.inputs, style)
    if result.diff:
        yield ""
        yield from diff_text(result.diff, style.color).removesuffix("\n").split("\n")
    yield from _what_next(result)


def _plan(result: FixResult, name: str, style: Style) -> Iterator[str]:
    if not result.plan:
        return
    kinds = Counter(entry.norm for entry in result.plan)
    yield f"insert {', '.join(f'{number:,} {kind}' for kind, number in kinds.items())} into {name}"
    # Layers made at one place (a loop, a comprehension) are one step for the reader.
    places: dict[tuple[str, str], list[str]] = {}
    for entry in result.plan:
        places.setdefault((str(entry.location or name), entry.constructed()), []).append(entry.after)
    steps = [f"{place}: {norm} after {span(layers, style, 'layer')}" for (place, norm), layers in places.items()]
    if not style.verbose and len(steps) > MOST_ROWS:
        steps = [*steps[:3], f"… {len(steps) - 5} more (-v) …", *steps[-2:]]
    yield from (f"  {step}" for step in steps)
    yield from (f"  {note}" for note in dict.fromkeys(entry.note for entry in result.plan if entry.note))
    if result.without_bias:
        yield f"  bias dropped, since the norm makes it void: {span(result.without_bias, style, 'layer')}"
    yield ""


def _before_and_after(result: FixResult, style: Style) -> Iterator[str]:
    before, after = result.before, result.after
    if before is None or after is None:
        return
    old = {layer.name: layer for layer in before.layers}
    new = {layer.name: layer for layer in after.layers}
    rows = [
        [clip(name, style), *_pair(old.get(name), new.get(name), "output"), *_pair(old.get(name), new.get(name))]
        for name in dict.fromkeys((*old, *new))
    ]
    yield "gradient norms by a layer's output and by its weight, before and after"
    yield from table(("layer", "output: before", "after", "weight: before", "after"), without_middle(rows, style))
    yield f"  {how_measured(after)}"
    yield ""
    yield f"verdict  {verdict_word(before, style)} -> {verdict_word(after, style)}"
    yield from (f"         now: {reason}" for reason in after.reasons if after.verdict != "healthy")
    where = f" (from {after.measured_over[1]} back to {after.measured_over[0]})" if after.measured_over else ""
    change = f"{decades_figure(before.measured_decades)} -> {decades_figure(after.measured_decades)}"
    yield f"decades  {change}{where}"


def _kept(change: float) -> str:
    """How far the outputs in evaluation mode are from the old model's: rounding, or more."""
    if change <= _ROUNDING:
        return f"kept in evaluation mode: outputs differ by at most {change:.1e} of the largest"
    return f"not kept to rounding: outputs in evaluation mode differ by up to {change:.1e} of the largest"


def _pair(old: LayerGradient | None, new: LayerGradient | None, which: str = "weight") -> tuple[str, str]:
    def figure(layer: LayerGradient | None) -> str:
        if layer is None:
            return norm_figure(None)
        return norm_figure(layer.output_grad_norm if which == "output" else layer.grad_norm)

    return figure(old), figure(new)


def _outcome(result: FixResult, style: Style) -> str:
    """Whether it helped, in one plain sentence."""
    if result.auto and result.remedy is None:
        return untreated(result, style)
    if not result.plan and not result.steps:
        if result.skipped:
            return f"{style.paint('Nothing inserted', 'yellow', bold=True)}: every layer in question was skipped."
        return f"{style.paint('Nothing to do', 'green', bold=True)}: no chain of unnormalized blocks is deep enough."
    if result.before is None or result.after is None or result.improved is None:
        return "Not measured: the model has no weights to run with."
    if result.improved:
        return f"{style.paint('Improved', 'green', bold=True)}: {_better(result.before, result.after)}."
    return f"{style.paint('Not improved', 'red', bold=True)}: {_no_better(result.before, result.after)}."


def _better(before: GradientProfile, after: GradientProfile) -> str:
    change = _change(before, after)
    if before.verdict != after.verdict:
        return f"{before.verdict} before, {after.verdict} now; {change}"
    return change if after.verdict == "healthy" else f"{change}, but the verdict is still {after.verdict}"


def _no_better(before: GradientProfile, after: GradientProfile) -> str:
    change = _change(before, after)
    if before.verdict == after.verdict == "healthy":
        return f"the model was healthy already; {change}"
    if before.verdict == after.verdict:
        return f"the model is still {after.verdict}; {change}"
    if before.verdict == "healthy":
        return f"the model was healthy and is {after.verdict} now; {change}"
    return f"the trouble has moved, not gone: {before.verdict} before, {after.verdict} now; {change}"


def _change(before: GradientProfile, after: GradientProfile) -> str:
    if before.measured_decades is None or after.measured_decades is None:
        return "the change of the gradient along the chains could not be measured"
    return (
        f"the gradient {fold(before.measured_decades, 'past')} on its way back and {fold(after.measured_decades)} now"
    )


def _skipped(result: FixResult, style: Style) -> Iterator[str]:
    """Every refusal has its reason; layers that share one share a line."""
    by_reason: dict[str, list[str]] = {}
    for skip in result.skipped:
        by_reason.setdefault(skip.reason, []).append(skip.layer)
    items = [f"{span(layers, style, 'layer')}: {reason}" for reason, layers in by_reason.items()]
    if items:
        yield ""
        yield from listed("skipped", items, style)


def _what_next(result: FixResult) -> Iterator[str]:
    if not result.plan and not result.steps:
        return
    yield ""
    yield from _refused(result)
    if result.written is not None:
        yield f"written to {result.written}" + (", although it did not improve" if result.improved is False else "")
    elif not result.diff:
        which = ".model of gradcheck_tool.fix(model, inputs, auto=True)" if result.auto else ".model"
        yield f"the fixed model is in {which}; make its optimizer from it, not from the old model"
    elif result.patch_refused is not None:
        yield "nothing is written; -o FILE writes the module above, which builds the fixed model"
    elif result.improved is False:
        yield "nothing is written; -i would change your source all the same, -o PATH write it elsewhere"
    else:
        yield "nothing is written yet: add -i to change your source, or -o PATH to write it elsewhere"
    if result.weights is not None:
        keys = "of the module above" if result.patch_refused is not None else "of the changed source"
        yield f"weights written to {result.weights}" + (f", under the keys {keys}" if result.diff else "")
    elif result.function_change is not None:
        how = "--save-weights FILE writes them" if result.diff else "save .model.state_dict()"
        yield f"what keeps the function is the norms' values, which no source holds: {how}"
    if not result.steps:
        yield f"old checkpoints: {_how_to_load(result)}"


def _refused(result: FixResult) -> Iterator[str]:
    if result.patch_refused is not None:
        yield f"your own source is not changed: {result.patch_refused}"


def _how_to_load(result: FixResult) -> str:
    """The new norms are in no old checkpoint, and a norm put into a Sequential shifts the keys behind it."""
    load = "load_state_dict(state, strict=False)"
    if not result.renamed:
        return f"{load} takes them; the new norms start fresh"
    old, new = next(iter(result.renamed.items()))
    keys = "one key" if len(result.renamed) == 1 else f"{len(result.renamed)} keys"
    return f"rename {keys} first ({old} is now {new}; all under `renamed` in the JSON), then {load}"
