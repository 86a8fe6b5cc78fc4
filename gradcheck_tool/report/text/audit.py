"""The text of an audit: findings like a linter's, then the chains, what was assumed, and what was not understood."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from gradcheck_tool.report.text.probe import measured_lines
from gradcheck_tool.report.text.words import (
    Style,
    clip,
    count,
    decades_figure,
    fold,
    input_lines,
    layer_name,
    listed,
    span,
    table,
)
from gradcheck_tool.results import SEVERITIES, AuditReport, Chain, Finding, Forecast

MOST_CHAINS = 10
WORTH_SAYING = 1.0
"""Decades of a chain with batch norm: from there GT001 is a warning."""

_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def audit_lines(report: AuditReport, style: Style) -> Iterator[str]:
    """Line by line; when quiet, the findings alone."""
    by_layers = {chain.layers: chain for chain in report.chains}
    for finding in report.findings:
        yield _finding(finding, report, style)
        chain = by_layers.get(finding.layers)
        if not style.quiet and (chain is not None or len(finding.layers) > 2):  # fewer stand in the message
            yield f"    {_where_and_how_much(finding, chain, style)}"
            yield from _with_norms(chain)
    if style.quiet:
        return
    if report.findings:
        yield ""
    yield from _summary(report, style)
    yield from input_lines(report.inputs, style)
    yield _how_it_was_read(report, style)
    yield from _chains(report, style)
    yield from _whole(report.forecast, style)
    specialized = [
        (f"{place.file}:{place.line}: " if place.file and place.line else "") + place.reason
        for place in report.capture.specialized
    ]
    yield from _spaced(listed("the graph holds for this input only, because of", specialized, style))
    unknown = [f"{entry.node}: {entry.reason}" for entry in report.not_analyzed]
    yield from _spaced(listed(f"not analyzed ({count(len(unknown), 'op')})", unknown, style))
    if report.probe is not None:
        yield ""
        yield from measured_lines(report.probe, style)
    yield from _what_next(report)


def _finding(finding: Finding, report: AuditReport, style: Style) -> str:
    place = str(finding.location) if finding.location else report.target.file or report.target.spec
    severity = style.paint(finding.severity, _COLORS[finding.severity], bold=True)
    message = " ".join(finding.message.split())
    return f"{style.paint(place, bold=True)}: {finding.rule} {severity} {finding.name} {message}"


def _where_and_how_much(finding: Finding, chain: Chain | None, style: Style) -> str:
    """The layers, and what happens to the gradient on its way back through them, as far as it is known."""
    if chain is None:
        return span(finding.layers, style, "layer")
    text = span(finding.layers, style)
    known = [
        f"{how} {fold(decades, 'infinitive')}"
        for how, decades in (("predicted", chain.predicted_decades), ("measured", chain.measured_decades))
        if decades is not None
    ]
    if not known:
        return f"{text}: no prediction{f', {chain.note}' if chain.note else ''}"
    return f"{text}: gradient {', '.join(known)} on its way back"


def _with_norms(chain: Chain | None) -> Iterator[str]:
    """A warning where batch norm behind every block would itself change the gradient by a decade or more."""
    decades = None if chain is None else chain.predicted_decades_with_bn
    if decades is not None and abs(decades) >= WORTH_SAYING:
        yield f"    with batch norm behind every block it would be predicted {fold(decades, 'infinitive')}"


def _whole(forecast: Forecast | None, style: Style) -> Iterator[str]:
    """What theory says of the whole model, when verbose."""
    if not style.verbose or forecast is None or forecast.over is None:
        return
    ends = " … ".join(clip(name, style) for name in forecast.over)
    yield ""
    if forecast.decades is None:
        yield f"the whole model ({ends}): no prediction{f', {forecast.note}' if forecast.note else ''}"
        return
    yield f"the whole model ({ends}): gradient predicted {fold(forecast.decades, 'infinitive')} on its way back"
    if forecast.spread_decades is not None:
        change = fold(forecast.spread_decades, "infinitive")
        yield f"  differences between samples predicted {change} on their way forward"


def _summary(report: AuditReport, style: Style) -> Iterator[str]:
    model, target = report.model, report.target
    names = [name for name in dict.fromkeys((target.object, model.class_)) if name not in target.spec]
    facts = [*names, count(model.parameters, "parameter"), count(model.weight_layers, "weight layer")]
    of_what = f"{target.spec} ({', '.join(facts)})"
    if report.findings:
        found = [(sum(f.severity == severity for f in report.findings), severity) for severity in reversed(SEVERITIES)]
        yield f"{', '.join(count(number, severity) for number, severity in found if number)} in {of_what}"
        return
    yield f"{style.paint('nothing found', 'green', bold=True)} in {of_what}"
    deepest = max((chain.depth for chain in report.chains), default=0)
    longest = (
        f"at most {count(deepest, 'block')} in a row without normalization" if deepest else "no unnormalized block"
    )
    yield longest + (", in what could be analyzed" if report.not_analyzed else "")


def _how_it_was_read(report: AuditReport, style: Style) -> str:
    device = report.capture.device
    nodes = f" ({count(report.capture.nodes, 'node')})" if style.verbose else ""
    if device != "meta":
        return f"read in training mode on {device}{nodes}: it reads values to decide its way, so one batch was run"
    data = "no data was run" if report.probe is None else "data was run for the probe alone"
    return f"read in training mode on the meta device{nodes}: {data}"


def _chains(report: AuditReport, style: Style) -> Iterator[str]:
    """The chains that a finding names, or all of them when verbose; deepest first."""
    named = {finding.layers for finding in report.findings}
    shown = [chain for chain in report.chains if style.verbose or chain.layers in named]
    if not style.verbose:
        shown = shown[:MOST_CHAINS]
    if shown:
        rows = [
            [
                f"{chain.depth:>5}",
                " … ".join(clip(name, style) for name in dict.fromkeys((chain.layers[0], chain.layers[-1]))),
                _activations(chain),
                decades_figure(chain.predicted_decades),
                decades_figure(chain.measured_decades),
            ]
            for chain in shown
        ]
        yield ""
        yield "chains of blocks without normalization; decades of the gradient norm, from last to first"
        yield from table(("depth", "layers", "activations", "predicted", "measured"), rows, left=3)
        if any(chain.predicted_decades is not None for chain in shown):
            yield "  predicted from the weights, for inputs of unit second moment"
        # Those that a finding names have theirs said there.
        unnamed = [chain for chain in shown if chain.note and chain.layers not in named]
        yield from dict.fromkeys(f"  no prediction from {layer_name(c.layers[0])}: {c.note}" for c in unnamed)
    if shown and len(shown) < len(report.chains):
        yield f"  and {count(len(report.chains) - len(shown), 'other chain')} (-v lists them)"


def _activations(chain: Chain) -> str:
    kinds = dict.fromkeys(chain.activations)
    return ", ".join(kinds) if len(kinds) <= 2 else f"{count(len(kinds), 'kind')}"


def _spaced(lines: Iterator[str]) -> Iterator[str]:
    """An empty line before a list, where there is a list."""
    for index, line in enumerate(lines):
        if index == 0:
            yield ""
        yield line


def _what_next(report: AuditReport) -> Iterator[str]:
    """The command that applies the remedy; a note needs none, and an object handed over in Python has no command."""
    remedies = dict.fromkeys(f.fix.remedy for f in report.findings if f.fix is not None and f.severity != "note")
    if remedies and report.target.file is not None:
        yield ""
        for remedy in remedies:
            yield f"to see what the remedy does: gradtool fix --{remedy} {shlex.quote(report.target.spec)}"
