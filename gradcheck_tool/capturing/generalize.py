"""One graph out of several recordings: at two or three batch sizes, so that it takes any, and in both modes.

The recordings are held against each other, node by node. A number that differs between batch sizes becomes a formula in
the batch size of the input; a value that differs between the modes follows the module's `training`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gradcheck_tool.capturing.formulas import fit


class Different(Exception):
    """Two recordings differ in more than values: there is no one graph for both."""


class Undecided(Different):
    """Several formulas go through the numbers at two batch sizes: a recording at a third one tells which."""


Merge = Callable[[Any, tuple[Any, ...]], Any]
MergeOf = Callable[[fx.Node, Any, tuple[Any, ...]], Any]
Twins = Sequence[Mapping[fx.Node, fx.Node]]


def _merged(mine: Any, others: tuple[Any, ...], twins: Twins, merge: Merge) -> Any:
    """`mine`, an argument of a node, with `merge(mine, others)` in the place of each value that is not the same in all
    of `others`, the same argument in the other graphs."""
    if isinstance(mine, fx.Node) and all(isinstance(other, fx.Node) for other in others):
        for other, twin in zip(others, twins, strict=True):
            if twin.get(other) is not mine:
                raise Different(f"{mine.name} is used where {other.name} was")
        return mine
    if any(type(mine) is not type(other) for other in others):
        return merge(mine, others)
    if isinstance(mine, (tuple, list)):
        if any(len(mine) != len(other) for other in others):
            raise Different("a list of another length")
        parts = [_merged(part, rest, twins, merge) for part, rest in _together(mine, others)]
        return type(mine)(*parts) if hasattr(mine, "_fields") else type(mine)(parts)
    if isinstance(mine, dict):
        if any(mine.keys() != other.keys() for other in others):
            raise Different("other keyword arguments")
        return {key: _merged(part, tuple(o[key] for o in others), twins, merge) for key, part in mine.items()}
    if isinstance(mine, slice):
        ends, *rest = [(one.start, one.stop, one.step) for one in (mine, *others)]
        return slice(*(_merged(end, other_ends, twins, merge) for end, other_ends in _together(ends, rest)))
    same = all(mine == other or (mine != mine and other != other) for other in others)
    return mine if same else merge(mine, others)


def _together(mine: Sequence[Any], others: Sequence[Sequence[Any]]) -> list[tuple[Any, tuple[Any, ...]]]:
    """Each part of `mine` with the parts of `others` at the same place."""
    return [(part, tuple(other[index] for other in others)) for index, part in enumerate(mine)]


def _twins(graph: fx.Graph, other: fx.Graph) -> dict[fx.Node, fx.Node]:
    """The node of `graph` for each node of `other`."""
    if len(graph.nodes) != len(other.nodes):
        raise Different(f"{len(graph.nodes)} nodes and {len(other.nodes)}")
    twins: dict[fx.Node, fx.Node] = {}
    for a, b in zip(graph.nodes, other.nodes, strict=True):
        if a.op != b.op or (a.target != b.target and not (a.op == "get_attr" and str(a.target).startswith("_tensor_"))):
            raise Different(f"{a.name} ({a.target}) where {b.name} ({b.target}) was")
        twins[b] = a
    return twins


def compare_constants(constants: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Raises Different where data that two graphs hold as constants is not the same."""
    for name in constants.keys() & others.keys():
        mine, other = constants[name], others[name]
        equal: Any = torch.equal if isinstance(mine, Tensor) else np.array_equal
        if isinstance(mine, (Tensor, np.ndarray)) and (type(mine) is not type(other) or not equal(mine, other)):
            raise Different("data that was computed out of sight")


def _merge_graphs(graph: fx.Graph, others: Sequence[fx.Graph], merge: MergeOf) -> None:
    """Edits `graph` in place to hold for `others` too; `merge` is told the node as well. Raises Different, with `graph`
    untouched, where it cannot."""
    twins = [_twins(graph, other) for other in others]
    changes = []
    for node, *rest in zip(list(graph.nodes), *(list(other.nodes) for other in others), strict=True):
        arguments = node.args, node.kwargs
        both = _merged(arguments, tuple((other.args, other.kwargs) for other in rest), twins, partial(merge, node))
        if both != arguments:
            changes.append((node, both))
    for node, (args, kwargs) in changes:
        node.args, node.kwargs = args, kwargs


def first_user_node(graph: fx.Graph) -> fx.Node:
    """The node before which all placeholders, and what takes them apart, are done."""
    node: fx.Node
    for node in graph.nodes:
        is_input = node.op == "placeholder" or (node.target in (operator.getitem, getattr) and "where" not in node.meta)
        if not is_input:
            return node
    raise AssertionError("a graph ends in its output node")


def with_free_batch(graph: fx.Graph, batch: int, others: Mapping[int, fx.Graph]) -> None:
    """Edits `graph`, recorded at `batch`, so that it takes any batch size; `others` were recorded at other sizes.

    Raises:
        Undecided: a third recording is needed to tell how the graph depends on the batch size.
        Different: the model does other things at the other batch sizes, or depends on them in no known way.
    """
    source = next((n for n in graph.nodes if n.meta.get("shape", ())[:1] == (batch,) and n.op != "get_attr"), None)
    start = first_user_node(graph)
    made: dict[Any, fx.Node] = {}
    batches = (batch, *others)

    def step(key: Any, target: Any, *args: Any) -> fx.Node:
        if key not in made:
            with graph.inserting_before(start):
                made[key] = graph.create_node("call_method" if key == () else "call_function", target, args)
        return made[key]

    def merge(node: fx.Node, mine: Any, rest: tuple[Any, ...]) -> Any:
        values = (mine, *rest)
        formula = fit(values, batches) if source is not None else None
        if formula is None or source is None:
            raise Different(
                ", ".join(f"{value!r} at batch size {size}" for value, size in zip(values, batches, strict=True))
            )
        if not formula.certain and len(batches) == 2:
            raise Undecided("a recording at a third batch size is needed")
        value = step((), "size", source, 0)
        for count, (function, constants) in enumerate(formula.steps, start=1):
            value = step(formula.steps[:count], function, value, *constants)
        return value

    try:
        _merge_graphs(graph, list(others.values()), merge)
    except Different:
        for node in reversed(made.values()):
            graph.erase_node(node)
        raise


def differing(graph: fx.Graph, other: fx.Graph) -> fx.Node | None:
    """The first node of `graph` whose arguments are others in `other`; None where all are the same.

    Raises:
        Different: the graphs differ in structure.
    """

    def merge(mine: Any, others: tuple[Any, ...]) -> Any:
        raise _Value

    twins = [_twins(graph, other)]
    node: fx.Node
    for node, twin in zip(graph.nodes, other.nodes, strict=True):
        try:
            _merged((node.args, node.kwargs), ((twin.args, twin.kwargs),), twins, merge)
        except _Value:
            return node
    return None


class _Value(Exception):
    """Two values differ."""


def choose(training: bool, in_training: Any, in_evaluation: Any) -> Any:
    """One of two values, by the mode of the module. Generated code calls it."""
    return in_training if training else in_evaluation


def with_both_modes(graph: fx.Graph, other: fx.Graph, training: bool = True) -> None:
    """Edits `graph`, recorded in `training` mode or in evaluation, to follow the `training` of the module in whose
    forward it is, wherever values differ from `other`, recorded in the other mode.

    Raises:
        Different: the model's structure differs between the modes.
    """
    start = first_user_node(graph)
    modes: dict[str, fx.Node] = {}
    made: list[fx.Node] = []

    def merge(node: fx.Node, mine: Any, others: tuple[Any, ...]) -> Any:
        (theirs,) = others
        if isinstance(mine, fx.Node) or isinstance(theirs, fx.Node):
            raise Different("an argument that is computed in one mode only")
        owner = node.meta.get("owner", "")
        in_training, in_evaluation = (mine, theirs) if training else (theirs, mine)
        with graph.inserting_before(start):
            if owner not in modes:
                modes[owner] = graph.create_node("get_attr", f"{owner}.training" if owner else "training")
            if (in_training, in_evaluation) == (True, False):
                return modes[owner]
            made.append(graph.call_function(choose, (modes[owner], in_training, in_evaluation)))
        return made[-1]

    try:
        _merge_graphs(graph, [other], merge)
    except Different:
        for node in [*reversed(made), *modes.values()]:
            graph.erase_node(node)
        raise
