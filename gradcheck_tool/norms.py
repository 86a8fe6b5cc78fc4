"""Hand-written normalization, found by what it computes: a tensor, or that minus its mean, divided by a spread or a
root mean square of itself.

Each node gets a `Form` over a base tensor x: a value of x (x itself, moved, cast, scaled or centered), a power of it,
its mean, its spread (a mean of a power, or std, var, norm), or one over that. A value of x over the spread of the same
x is a normalization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch
from torch import fx

from gradcheck_tool.ops import Kind, Operation, bends, covers_all, is_tensor

if TYPE_CHECKING:
    from gradcheck_tool.chains.dataflow import Flow


class Tag(Enum):
    """What a node is of its base."""

    VALUE = auto()
    POWER = auto()
    MEAN = auto()
    SPREAD = auto()
    INVERSE = auto()  # one over a spread


@dataclass(frozen=True)
class Form:
    """A node's value, in terms of another node's."""

    base: fx.Node
    tag: Tag


_AVERAGES = frozenset(
    {"mean", "sum", "nanmean", "nansum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "AvgPool1d", "AvgPool2d"}
)
_AVERAGES |= {"AvgPool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "sum_to_size", "trace"}
_AVERAGES |= {"AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"}
_EXPONENTS = frozenset({"pow", "__pow__", "__ipow__", "float_power"})
_POWERS = frozenset({"square", "abs", "absolute", "__abs__"}) | _EXPONENTS
_FLIPS = frozenset({"rsqrt", "reciprocal"})
_KEEPS = frozenset({"sqrt", "clamp", "clamp_min", "clamp_max", "clip", "exp", "log"})
_PICKS = frozenset({"getitem", "select", "narrow", "index_select", "gather", "take", "masked_select"})


@dataclass(frozen=True)
class HandWrittenNorm:
    """The node that divides, the tensor that is normalized, and the node that is its spread (or one over it)."""

    node: fx.Node
    base: fx.Node
    spread: fx.Node


@dataclass(frozen=True)
class Forms:
    """Every node's form; the normalizations; and the nonlinear nodes that only serve to compute a spread."""

    of: Mapping[fx.Node, Form]
    norms: Mapping[fx.Node, HandWrittenNorm]
    internal: frozenset[fx.Node]


def find_norms(
    calls: Mapping[fx.Node, Operation], depends: Mapping[fx.Node, bool], live: frozenset[fx.Node], flow: Flow
) -> Forms:
    """The forms of all `calls` (in the order of the graph); `depends` says which nodes depend on the input, and `live`
    through which of them a gradient flows back to it: beside these, a running statistic is a constant."""
    forms: dict[fx.Node, Form] = {}
    norms: dict[fx.Node, HandWrittenNorm] = {}

    def form_of(node: fx.Node) -> Form:
        return forms.get(node) or Form(node, Tag.VALUE)

    for node, operation in calls.items():
        if not depends.get(node):
            continue
        parts = [source.node for source in flow.sources[node] if depends.get(source.node)]
        if len(parts) == 2 and form_of(parts[0]).base is not form_of(parts[1]).base:
            parts = [part for part in parts if part in live] or parts
        form: Form | None = None
        if len(parts) == 1:
            form = _of_one(form_of(parts[0]), operation, node, parts[0])
        elif len(parts) == 2:
            first, second = form_of(parts[0]), form_of(parts[1])
            form = _of_two(operation, first, second)
            if form is None and _divides(operation, first, second):
                spread = parts[0] if first.tag is Tag.INVERSE else parts[1]
                norms[node] = HandWrittenNorm(node, first.base, spread)
        forms[node] = form or Form(node, Tag.VALUE)
    return Forms(forms, norms, _internal(calls, forms, norms, flow))


def _of_one(form: Form, operation: Operation, node: fx.Node, part: fx.Node) -> Form | None:
    """The form of an op on one tensor that depends on the input."""
    kind, name, tag = operation.kind, operation.name, form.tag
    if name == "getitem" and tag is Tag.SPREAD and _is_mean_of_var_mean(node):
        return Form(form.base, Tag.MEAN)
    if kind in (Kind.ASSIGN, Kind.CUT) or (name == "copy" and tag is not Tag.VALUE):
        return form
    if kind is Kind.STATISTIC and tag is Tag.VALUE:
        return Form(form.base, Tag.SPREAD)
    if kind is Kind.MIXING and name in _AVERAGES:
        averaged = {Tag.VALUE: Tag.MEAN, Tag.POWER: Tag.SPREAD}.get(tag, tag)
        return Form(form.base, averaged)
    if kind is Kind.PASSING:
        picked = (
            tag is Tag.VALUE
            and name in _PICKS
            and (not is_tensor(part) or node.meta.get("shape") != part.meta.get("shape"))
        )
        return None if picked and not (name == "getitem" and is_tensor(node) and covers_all(node.args[1])) else form
    negative = name in _EXPONENTS and _is_negative(node)
    squares = name in ("mul", "__mul__", "multiply", "__imul__") and node.args[:2] == (part, part)
    if tag is Tag.VALUE:
        if (name in _POWERS and not negative) or squares:
            return Form(form.base, Tag.POWER)
        return form if kind in (Kind.PRODUCT, Kind.SUM) and not bends(node, operation, part) else None
    if name in _FLIPS or negative or (kind is Kind.PRODUCT and "div" in name and bends(node, operation, part)):
        flipped = {Tag.SPREAD: Tag.INVERSE, Tag.INVERSE: Tag.SPREAD}.get(tag)
        return Form(form.base, flipped) if flipped else None
    if tag is Tag.POWER:
        return form if kind in (Kind.PRODUCT, Kind.SUM) else None
    return form if kind in (Kind.PRODUCT, Kind.SUM) or name in _KEEPS or name in _POWERS else None


def _is_mean_of_var_mean(node: fx.Node) -> bool:
    source, index = node.args[0], node.args[1]
    return (
        isinstance(source, fx.Node)
        and isinstance(index, int)
        and index == 1
        and source.target in (torch.var_mean, torch.std_mean)
    )


def _is_negative(node: fx.Node) -> bool:
    exponent = node.args[1] if len(node.args) > 1 else node.kwargs.get("exponent")
    return isinstance(exponent, (int, float)) and exponent < 0


def _of_two(operation: Operation, first: Form, second: Form) -> Form | None:
    """The form of an op on two tensors that depend on the input; None where it is no form of one base."""
    if first.base is not second.base:
        return None
    tags = {first.tag, second.tag}
    if operation.kind is Kind.SUM:
        if tags == {Tag.VALUE, Tag.MEAN}:
            return Form(first.base, Tag.VALUE)  # centered
        if tags <= {Tag.MEAN, Tag.SPREAD}:
            return Form(first.base, Tag.SPREAD if Tag.SPREAD in tags else Tag.MEAN)  # E[x²] − E[x]²
    if operation.kind is Kind.PRODUCT:
        if tags == {Tag.VALUE} and "mul" in operation.name:
            return Form(first.base, Tag.POWER)
        if tags <= {Tag.MEAN, Tag.SPREAD}:
            return Form(first.base, Tag.MEAN)
    return None


def _divides(operation: Operation, first: Form, second: Form) -> bool:
    """Whether a product is x over the spread of x."""
    if operation.kind is not Kind.PRODUCT or first.base is not second.base:
        return False
    if "mul" in operation.name:
        return {first.tag, second.tag} == {Tag.VALUE, Tag.INVERSE}
    return "div" in operation.name and (first.tag, second.tag) == (Tag.VALUE, Tag.SPREAD)


def _internal(
    calls: Mapping[fx.Node, Operation],
    forms: Mapping[fx.Node, Form],
    norms: Mapping[fx.Node, HandWrittenNorm],
    flow: Flow,
) -> frozenset[fx.Node]:
    """The nonlinear nodes, such as the square in a variance, that are no activations: a spread that some normalization
    divides by is made of them. (Running statistics may be made of them too.)"""
    internal: set[fx.Node] = set()
    spreads = {norm.spread for norm in norms.values()}
    for node in reversed(list(calls)):
        form = forms.get(node)
        if form is None:
            continue
        serves = form.tag is not Tag.VALUE and any(user in internal for user in flow.users[node])
        if node in spreads or serves:
            internal.add(node)
    return frozenset(internal)
