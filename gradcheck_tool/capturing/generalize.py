"""One graph out of several recordings: at two batch sizes, so that it takes any, and in both modes.

Two recordings are held against each other, node by node. An integer that differs between batch sizes b and b' becomes
an expression in the batch size of the input; a value that differs between the modes follows the module's `training`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import fx


class Different(Exception):
    """Two recordings differ in more than values: there is no one graph for both."""


Merge = Callable[[Any, Any], Any]


def _merged(mine: Any, other: Any, twins: dict[fx.Node, fx.Node], merge: Merge) -> Any:
    """`mine`, an argument of a node, with `merge(mine, other)` in the place of each value that differs in `other`."""
    if isinstance(mine, fx.Node) and isinstance(other, fx.Node):
        if twins.get(other) is not mine:
            raise Different(f"{mine.name} is used where {other.name} was")
        return mine
    if type(mine) is not type(other):
        return merge(mine, other)
    if isinstance(mine, (tuple, list)):
        if len(mine) != len(other):
            raise Different("a list of another length")
        parts = [_merged(a, b, twins, merge) for a, b in zip(mine, other, strict=True)]
        return type(mine)(*parts) if hasattr(mine, "_fields") else type(mine)(parts)
    if isinstance(mine, dict):
        if mine.keys() != other.keys():
            raise Different("other keyword arguments")
        return {key: _merged(value, other[key], twins, merge) for key, value in mine.items()}
    if isinstance(mine, slice):
        ends = ((mine.start, other.start), (mine.stop, other.stop), (mine.step, other.step))
        return slice(*(_merged(a, b, twins, merge) for a, b in ends))
    return mine if mine == other or (mine != mine and other != other) else merge(mine, other)


def _merge_graphs(graph: fx.Graph, other: fx.Graph, merge: Merge) -> None:
    """Edits `graph` in place to hold for `other` too. Raises Different, with `graph` untouched, where it cannot."""
    mine, others = list(graph.nodes), list(other.nodes)
    if len(mine) != len(others):
        raise Different(f"{len(mine)} nodes and {len(others)}")
    twins: dict[fx.Node, fx.Node] = {}
    for a, b in zip(mine, others, strict=True):
        if a.op != b.op or (a.target != b.target and not (a.op == "get_attr" and str(a.target).startswith("_tensor_"))):
            raise Different(f"{a.name} ({a.target}) where {b.name} ({b.target}) was")
        twins[b] = a
    changes = []
    for a, b in zip(mine, others, strict=True):
        both = _merged((a.args, a.kwargs), (b.args, b.kwargs), twins, merge)
        if both != (a.args, a.kwargs):
            changes.append((a, both))
    for node, (args, kwargs) in changes:
        node.args, node.kwargs = args, kwargs


def first_user_node(graph: fx.Graph) -> fx.Node:
    """The node before which all placeholders, and what takes them apart, are done."""
    for node in graph.nodes:
        is_input = node.op == "placeholder" or (node.target in (operator.getitem, getattr) and "where" not in node.meta)
        if not is_input:
            return node
    raise AssertionError("a graph ends in its output node")


def with_free_batch(graph: fx.Graph, other: fx.Graph, batch: int, other_batch: int) -> None:
    """Edits `graph`, recorded at `batch`, so that it takes any batch size; `other` was recorded at `other_batch`.

    An integer v at `batch` and v' at `other_batch` becomes the line through the two, ⌊p·B / q⌋ + c.

    Raises:
        Different: the model does other things at the other batch size, or depends on it in another way.
    """
    source = next((n for n in graph.nodes if n.meta.get("shape", ())[:1] == (batch,) and n.op != "get_attr"), None)
    start = first_user_node(graph)
    made: dict[Any, fx.Node] = {}

    def expression(key: Any, target: Any, *args: Any) -> fx.Node:
        if key not in made:
            op = "call_method" if isinstance(target, str) else "call_function"
            with graph.inserting_before(start):
                made[key] = graph.create_node(op, target, args)
        return made[key]

    def merge(mine: Any, theirs: Any) -> Any:
        if source is None or type(mine) is not int or type(theirs) is not int:
            raise Different(f"{mine!r} at batch size {batch}, {theirs!r} at {other_batch}")
        slope = Fraction(theirs - mine, other_batch - batch)
        offset = mine - slope * batch
        if slope <= 0 or offset.denominator != 1:
            raise Different(f"{mine} at batch size {batch}, {theirs} at {other_batch}")
        value: fx.Node = expression("size", "size", source, 0)
        if slope.numerator != 1:
            value = expression(("mul", slope.numerator), operator.mul, value, slope.numerator)
        if slope.denominator != 1:
            value = expression(("div", slope), operator.floordiv, value, slope.denominator)
        if offset:
            value = expression(("add", slope, offset), operator.add, value, int(offset))
        return value

    try:
        _merge_graphs(graph, other, merge)
    except Different:
        for node in reversed(made.values()):
            graph.erase_node(node)
        raise


def choose(training: bool, in_training: Any, in_evaluation: Any) -> Any:
    """One of two values, by the mode of the module. Generated code calls it."""
    return in_training if training else in_evaluation


def with_both_modes(graph: fx.Graph, eval_graph: fx.Graph) -> None:
    """Edits `graph`, recorded in training mode, to follow the module's `training` wherever values differ.

    Raises:
        Different: the model's structure differs between the modes.
    """
    start = first_user_node(graph)
    mode: list[fx.Node] = []
    made: list[fx.Node] = []

    def merge(mine: Any, theirs: Any) -> Any:
        if isinstance(mine, fx.Node) or isinstance(theirs, fx.Node):
            raise Different("an argument that is computed in one mode only")
        with graph.inserting_before(start):
            if not mode:
                mode.append(graph.create_node("get_attr", "training"))
            if (mine, theirs) == (True, False):
                return mode[0]
            made.append(graph.call_function(choose, (mode[0], mine, theirs)))
        return made[-1]

    try:
        _merge_graphs(graph, eval_graph, merge)
    except Different:
        for node in [*reversed(made), *mode]:
            graph.erase_node(node)
        raise
