"""Hand-written normalization, found by what it computes: a tensor, or that minus its mean, divided by a spread or a
root mean square of itself.

Each node gets its `Form`s. One is over a base tensor x: a value of x (x itself, moved, cast, scaled or centered), a
power of it, its mean, its spread (a mean of a power, or std, var, norm), or one over that. Where it is anything but a
value of x it is also a value of itself: the mean over an image may be normalized in its turn. A value of x over the
spread of the same x is a normalization.

So is f(x) over the spread of x where f is an activation that grows as x does, a ReLU or x·sigmoid(v·x): f(c·x) over
the spread of c·x is f(x) over that of x, for every c > 0 or in the limit, and the scale of x is taken out all the same.
And x times a ratio of its own spreads is a gate: a pure number that takes nothing of the scale of x away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch
from torch import fx

from gradcheck_tool.operands import bends, covers_all
from gradcheck_tool.ops import Kind, Operation, is_tensor

if TYPE_CHECKING:
    from gradcheck_tool.chains.dataflow import Flow


class Tag(Enum):
    """What a node is of its base."""

    VALUE = auto()
    POWER = auto()
    MEAN = auto()
    SPREAD = auto()
    INVERSE = auto()  # one over a spread
    RATIO = auto()  # of two spreads
    GROWN = auto()  # an activation of it that grows as it does
    BOUNDED = auto()  # an activation of it that is bounded, as a gate is
    MIXED = auto()  # a sum or a product of a value and a spread


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
_GROWING_NAMES = """
    relu leakyrelu prelu rrelu elu celu selu gelu silu mish hardswish hardshrink softshrink tanhshrink threshold
    softplus logsigmoid abs absolute __abs__"""
_GROWING = frozenset(_GROWING_NAMES.split())
_BOUNDED_NAMES = "sigmoid hardsigmoid tanh hardtanh relu6 softsign erf erfc atan arctan expit ndtr"
_BOUNDED = frozenset(_BOUNDED_NAMES.split())
_ELEMENTWISE = (Tag.GROWN, Tag.BOUNDED, Tag.MIXED)
_LARGER = frozenset({"maximum", "max", "fmax"})
_NO_GRADIENT = (Kind.CONSTANT, Kind.CUT, Kind.DISCRETE)
_CLAMPS = frozenset({"clamp", "clip", "clamp_min", "clamp_max"})
_FORMS_PER_NODE = 4  # a tensor is seldom looked at in more ways, and the pass stays linear in its nodes
_PICKS = frozenset({"getitem", "select", "narrow", "index_select", "gather", "take", "masked_select"})


@dataclass(frozen=True)
class HandWrittenNorm:
    """The node that divides, the tensor that is normalized, and the node that is its spread (or one over it). Where an
    activation of the tensor is divided, `activated` is that."""

    node: fx.Node
    base: fx.Node
    spread: fx.Node
    activated: fx.Node | None = None


@dataclass(frozen=True)
class Forms:
    """Every node's form; the normalizations; and the nonlinear nodes that only serve to compute one, or a gate that is
    a ratio of spreads."""

    of: Mapping[fx.Node, Form]
    norms: Mapping[fx.Node, HandWrittenNorm]
    internal: frozenset[fx.Node]


def find_norms(
    calls: Mapping[fx.Node, Operation], depends: Mapping[fx.Node, bool], live: frozenset[fx.Node], flow: Flow
) -> Forms:
    """The forms of all `calls` (in the order of the graph); `depends` says which nodes depend on the input, and `live`
    through which of them a gradient flows back to it: beside these, a running statistic is a constant."""
    found: dict[fx.Node, tuple[Form, ...]] = {}
    norms: dict[fx.Node, HandWrittenNorm] = {}
    gates: dict[fx.Node, fx.Node] = {}  # the ratios that a tensor is multiplied by, and the tensor

    def forms_of(node: fx.Node) -> tuple[Form, ...]:
        return found.get(node) or (Form(node, Tag.VALUE),)

    for node, operation in calls.items():
        if not depends.get(node):
            continue
        parts = [source.node for source in flow.sources[node] if depends.get(source.node)]
        if len(parts) == 2 and not _pairs(forms_of(parts[0]), forms_of(parts[1])):
            parts = [part for part in parts if part in live] or parts
        derived: list[Form] = []
        if len(parts) == 1:
            for form in forms_of(parts[0]):
                derived += _of_one(form, operation, node, parts[0])
        elif len(parts) == 2:
            pairs = _pairs(forms_of(parts[0]), forms_of(parts[1]))
            norm = _norm_of(node, operation, parts, pairs)
            if norm is not None:
                norms[node] = norm
            for one, other in pairs if norm is None else ():
                tag = _of_two(operation, one.tag, other.tag)
                derived += [] if tag is None else [Form(one.base, tag)]
                if _gates(operation, one.tag, other.tag):
                    gates[parts[0] if one.tag is Tag.RATIO else parts[1]] = one.base
        if all(form.tag is not Tag.VALUE for form in derived):
            # an activation of x is first of all a value of its own, and the run goes by what comes first
            first = any(form.tag in _ELEMENTWISE for form in derived)
            own = Form(node, Tag.VALUE)
            derived = [own, *derived] if first else [*derived[: _FORMS_PER_NODE - 1], own]
        found[node] = tuple(dict.fromkeys(derived))[:_FORMS_PER_NODE]
    return _sorted_out(calls, found, norms, gates, flow)


def _pairs(first: tuple[Form, ...], second: tuple[Form, ...]) -> list[tuple[Form, Form]]:
    """The forms of two nodes that are over the same base."""
    return [(one, other) for one in first for other in second if one.base is other.base]


def _norm_of(
    node: fx.Node, operation: Operation, parts: list[fx.Node], pairs: list[tuple[Form, Form]]
) -> HandWrittenNorm | None:
    """The normalization that a node is; that of a tensor itself goes before that of what an activation was made of."""
    for grown in (False, True):
        for first, second in pairs:
            if _divides(operation, first, second, Tag.GROWN if grown else Tag.VALUE):
                over = 0 if first.tag is Tag.INVERSE else 1
                return HandWrittenNorm(node, first.base, parts[over], parts[1 - over] if grown else None)
    return None


def _gates(operation: Operation, first: Tag, second: Tag) -> bool:
    """Whether a product is x times a ratio of spreads of x."""
    return operation.kind is Kind.PRODUCT and "mul" in operation.name and {first, second} == {Tag.VALUE, Tag.RATIO}


def _of_one(form: Form, operation: Operation, node: fx.Node, part: fx.Node) -> list[Form]:
    """The forms of an op on one tensor that depends on the input, of which that tensor has `form`."""
    tags = [_statistic_of_one(form.tag, operation, node, part), _activated(form.tag, operation, node, part)]
    return [Form(form.base, tag) for tag in tags if tag is not None]


def _activated(tag: Tag, operation: Operation, node: fx.Node, part: fx.Node) -> Tag | None:
    """What an activation makes of a value, or of one that was activated before."""
    if tag not in (Tag.VALUE, Tag.GROWN):
        return None
    name = operation.name.lower().replace("_", "") if not operation.name.startswith("__") else operation.name
    if operation.kind is Kind.SUM:
        return Tag.GROWN if bends(node, operation, part) else None
    if operation.kind is not Kind.ACTIVATION:
        return None
    if operation.name in _CLAMPS:
        bounds = [bound for bound in (*node.args[1:], *node.kwargs.values()) if bound is not None]
        return Tag.GROWN if len(bounds) == 1 else Tag.BOUNDED
    if name in _GROWING:
        return Tag.GROWN
    return Tag.BOUNDED if name in _BOUNDED and tag is Tag.VALUE else None


def _statistic_of_one(tag: Tag, operation: Operation, node: fx.Node, part: fx.Node) -> Tag | None:
    """What an op on one tensor makes of a value, of a statistic or of anything between."""
    kind, name = operation.kind, operation.name
    if name == "getitem" and tag is Tag.SPREAD and _is_mean_of_var_mean(node):
        return Tag.MEAN
    if kind in (Kind.ASSIGN, Kind.CUT) or (name == "copy" and tag is not Tag.VALUE):
        return tag
    if kind is Kind.STATISTIC and tag is Tag.VALUE:
        return Tag.SPREAD
    if tag in _ELEMENTWISE:
        linear = kind in (Kind.PRODUCT, Kind.SUM) and not bends(node, operation, part)
        return tag if kind is Kind.PASSING or linear else None
    if kind is Kind.MIXING and name in _AVERAGES:
        return {Tag.VALUE: Tag.MEAN, Tag.POWER: Tag.SPREAD}.get(tag, tag)
    if kind is Kind.PASSING:
        picked = (
            tag is Tag.VALUE
            and name in _PICKS
            and (not is_tensor(part) or node.meta.get("shape") != part.meta.get("shape"))
        )
        return None if picked and not (name == "getitem" and is_tensor(node) and covers_all(node.args[1])) else tag
    negative = name in _EXPONENTS and _is_negative(node)
    squares = name in ("mul", "__mul__", "multiply", "__imul__") and node.args[:2] == (part, part)
    if tag is Tag.VALUE:
        if (name in _POWERS and not negative) or squares:
            return Tag.POWER
        return tag if kind in (Kind.PRODUCT, Kind.SUM) and not bends(node, operation, part) else None
    if name in _FLIPS or negative or (kind is Kind.PRODUCT and "div" in name and bends(node, operation, part)):
        return {Tag.SPREAD: Tag.INVERSE, Tag.INVERSE: Tag.SPREAD}.get(tag)
    if tag is Tag.POWER:
        return tag if kind in (Kind.PRODUCT, Kind.SUM) else None
    return tag if kind in (Kind.PRODUCT, Kind.SUM) or name in _KEEPS or name in _POWERS else None


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


def _of_two(operation: Operation, first: Tag, second: Tag) -> Tag | None:
    """What an op makes of two forms of one base."""
    tags = {first, second}
    multiplied = operation.kind is Kind.PRODUCT and "mul" in operation.name
    if operation.kind is Kind.SUM:
        if tags == {Tag.VALUE, Tag.MEAN}:
            return Tag.VALUE  # centered
        if tags <= {Tag.MEAN, Tag.SPREAD}:
            return Tag.SPREAD if Tag.SPREAD in tags else Tag.MEAN  # E[x²] − E[x]²
        if operation.name in _LARGER and Tag.SPREAD in tags and tags <= {Tag.SPREAD, Tag.VALUE, Tag.MIXED}:
            return Tag.SPREAD  # what is divided by it is divided by a spread at least
    if multiplied and tags == {Tag.VALUE}:
        return Tag.POWER
    if multiplied and Tag.BOUNDED in tags and tags <= {Tag.VALUE, Tag.GROWN, Tag.BOUNDED}:
        return Tag.BOUNDED if tags == {Tag.BOUNDED} else Tag.GROWN  # x·sigmoid(x)
    if tags == {Tag.VALUE, Tag.SPREAD} and (multiplied or operation.kind is Kind.SUM):
        return Tag.MIXED
    if operation.kind is Kind.PRODUCT:
        over = "div" in operation.name and (first, second) == (Tag.SPREAD, Tag.SPREAD)
        if over or (multiplied and tags == {Tag.SPREAD, Tag.INVERSE}):
            return Tag.RATIO
        if tags <= {Tag.MEAN, Tag.SPREAD}:
            return Tag.MEAN
    return None


def _divides(operation: Operation, first: Form, second: Form, over: Tag) -> bool:
    """Whether a product is x, or an activation of it, over the spread of x; `over` says which."""
    if operation.kind is not Kind.PRODUCT:
        return False
    if "mul" in operation.name:
        return {first.tag, second.tag} == {over, Tag.INVERSE}
    return "div" in operation.name and (first.tag, second.tag) == (over, Tag.SPREAD)


def _sorted_out(
    calls: Mapping[fx.Node, Operation],
    found: Mapping[fx.Node, tuple[Form, ...]],
    norms: Mapping[fx.Node, HandWrittenNorm],
    gates: Mapping[fx.Node, fx.Node],
    flow: Flow,
) -> Forms:
    """One form for each node, and the nonlinear nodes, such as the square in a variance, that are no activations: a
    spread that some normalization divides by is made of them. (Running statistics may be made of them too.) An
    activation in a normalization is one of them only where nothing else reads it."""
    of = {node: forms[0] for node, forms in found.items()}
    internal = {norm.spread: norm.base for norm in norms.values()} | dict(gates)  # and the tensor it is of
    inside: dict[fx.Node, fx.Node] = {}  # likewise, the activations of it that are divided
    for node in reversed(list(calls)):
        back = [user for user in flow.users[node] if user not in calls or calls[user].kind not in _NO_GRADIENT]
        for form in found.get(node, ()):
            if form.tag in (Tag.GROWN, Tag.BOUNDED):
                divided = [
                    norms[user].base if _is_divided(node, norms.get(user)) else inside.get(user) for user in back
                ]
                if divided and all(base is form.base for base in divided):
                    inside[node] = form.base
            elif form.tag is not Tag.VALUE and any(internal.get(user) is form.base for user in flow.users[node]):
                internal.setdefault(node, form.base)
        if node in internal:
            of[node] = next((form for form in found[node] if form.base is internal[node]), of[node])
    return Forms(of, norms, frozenset(internal) | frozenset(inside))


def _is_divided(node: fx.Node, norm: HandWrittenNorm | None) -> bool:
    return norm is not None and norm.activated is node
