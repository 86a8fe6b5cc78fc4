"""The text of a probe: the verdict and its reasons, then the gradient norms, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_tool.report.text.words import (
    Style,
    clip,
    count,
    decades_figure,
    fold,
    input_lines,
    norm_figure,
    short_figure,
    subject_name,
    table,
    with_spread,
    without_middle,
)
from gradcheck_tool.results import GradientProfile, ProbeReport

_GRADIENTS = ("layer", "weight grad", "output grad")
_SPREAD = "± decades"
_STATE = ("weight", "act mean", "act std", "dead", "saturated")


def probe_lines(report: ProbeReport, style: Style) -> Iterator[str]:
    """Line by line; when quiet, the verdict and its first reason on one line."""
    name = subject_name(report.target)
    if style.quiet:
        yield f"{name}: {_verdict_and_reason(report.probe, style)}"
        return
    yield from measured_lines(report.probe, style, name)
    yield ""
    yield from input_lines(report.inputs, style)


def profile_lines(profile: GradientProfile, style: Style) -> Iterator[str]:
    """A profile by itself, as the library returns it."""
    if style.quiet:
        yield _verdict_and_reason(profile, style)
        return
    yield from measured_lines(profile, style)


def measured_lines(profile: GradientProfile, style: Style, name: str | None = None) -> Iterator[str]:
    """The verdict, its reasons, the decades, the table of layers, and how it was measured."""
    yield verdict_word(profile, style) + (f": {name}" if name else "")
    change = _change(profile)
    reasons = [change if _says_the_change(reason, profile) else reason for reason in profile.reasons]
    yield from (f"  {line}" for line in dict.fromkeys((*reasons, change)) if line)
    yield ""
    yield from _layers(profile, style)
    yield f"  {how_measured(profile)}"
    if profile.loss != "user":
        yield "  whether it learns was not tried: that takes targets and a loss (example_batch, loss_fn)"
    yield f"  output: {profile.output.kind}, {'finite' if profile.output.finite else 'not finite'}"


def _change(profile: GradientProfile) -> str:
    """From where to where the gradient norm changes, and by how much; empty where that was not measured."""
    if profile.measured_decades is None:
        return ""
    start = f"from {profile.measured_over[1]} back to {profile.measured_over[0]} " if profile.measured_over else ""
    change = fold(profile.measured_decades)
    figure = with_spread(decades_figure(profile.measured_decades), profile.measured_decades_std)
    return f"{start}the gradient norm {change} ({figure} decades)"


def _says_the_change(reason: str, profile: GradientProfile) -> bool:
    """Whether a verdict's reason is the change itself: that is said once, with its figure."""
    over = profile.measured_over
    return over is not None and reason.startswith(f"from {over[1]} back to {over[0]} the gradient norm ")


def verdict_word(profile: GradientProfile, style: Style) -> str:
    """The verdict, green or red."""
    return style.paint(profile.verdict, "green" if profile.verdict == "healthy" else "red", bold=True)


def how_measured(profile: GradientProfile) -> str:
    """Loss, batch and seed: no gradient norm means anything without them."""
    loss = "the given loss" if profile.loss == "user" else "a random projection of the output as loss"
    batches = "one batch" if profile.batches == 1 else f"{profile.batches} batches"
    size = "" if profile.batch_size is None else f" of {profile.batch_size}"
    seeds = f"seed {profile.seed}"
    if profile.seeds > 1:
        seeds = f"each with seeds {profile.seed} to {profile.seed + profile.seeds - 1}"
    return f"measured with {loss}, {batches}{size}, {seeds}"


def _verdict_and_reason(profile: GradientProfile, style: Style) -> str:
    return verdict_word(profile, style) + (f": {profile.reasons[0]}" if profile.reasons else "")


def _layers(profile: GradientProfile, style: Style) -> Iterator[str]:
    if not profile.layers:
        yield "  no weight layer ran"
        return
    several = any(layer.output_grad_norm_decades_std is not None for layer in profile.layers)
    spread = (_SPREAD,) if several else ()
    rows = [
        [
            clip(layer.name, style),
            *map(norm_figure, (layer.grad_norm, layer.output_grad_norm)),
            *(decades_figure(layer.output_grad_norm_decades_std) for _ in spread),
            norm_figure(layer.weight_norm),
            *map(short_figure, (layer.activation_mean, layer.activation_std)),
            *map(short_figure, (layer.dead_fraction, layer.saturated_fraction)),
        ]
        for layer in profile.layers
    ]
    yield from table((*_GRADIENTS, *spread, *_STATE), without_middle(rows, style))
    yield f"  L2 norms of {count(len(rows), 'weight layer')}; dead and saturated as shares of the activation's outputs"
    if several:
        runs = count(profile.batches * profile.seeds, "run")
        yield f"  norms as geometric means of {runs}; ± is the standard deviation of log10 of the output grad"
