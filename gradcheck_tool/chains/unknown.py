"""What the analysis of a graph did not understand, each with the reason why the run ends there."""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from gradcheck_tool.chains.walk import Walk
from gradcheck_tool.ops import Kind
from gradcheck_tool.results import Unanalyzed

_REASONS = {
    Kind.OTHER: "{} is not an operation that gradtool knows; the run ends there",
    Kind.RECURRENT: "the steps inside {} run fused and are not seen; the run ends there",
    Kind.STATISTIC: "{} outside a normalization; the run ends there",
    Kind.SOFTMAX: "{} in the middle of the model; the run ends there",
}


def not_analyzed(walk: Walk, heads: frozenset[fx.Node]) -> Iterator[Unanalyzed]:
    """The ops that a gradient goes through and the analysis does not understand, in the order in which they ran.

    A softmax that weighs values, as in attention, and one behind which nothing is learned are understood.
    """
    for node in walk.graph.nodes:
        if "opaque" in node.meta:
            yield Unanalyzed(node.name, str(node.meta["opaque"]))
        operation = walk.operations.get(node)
        if operation is None or not walk.signals[node].grad or node in walk.forms.norms or node in walk.forms.internal:
            continue
        if operation.kind is Kind.SOFTMAX and (node in heads or node in walk.attention):
            continue
        reason = _REASONS.get(operation.kind)
        if reason is not None:
            name = operation.name
            known = operation.kind is not Kind.OTHER or not name.startswith("a custom")
            text = reason.format(name) if known else f"{name} is not looked into; the run ends there"
            yield Unanalyzed(node.name, text)
