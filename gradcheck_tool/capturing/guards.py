"""Checks at the entrance of a captured graph: what it holds for is said, not assumed.

Where a graph holds for one batch size only, or an argument that is no tensor may have decided the model's way, a node
at the head of the graph compares. Parameters of forward that were not given become arguments with their defaults.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import fx

_PLAIN = (bool, int, float, str, type(None))
_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def expect(value: Any, recorded: Any, name: str) -> None:
    """Raises where an argument is another than the one that the graph was recorded with. Generated code calls it.

    Raises:
        ValueError: `value` is not `recorded`.
    """
    if type(value) is not type(recorded) or value != recorded:
        raise ValueError(
            f"this graph was captured with {name}={recorded!r} and does not hold for {name}={value!r}: "
            "capture the model again with that"
        )


def guard_arguments(graph: fx.Graph, forward: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Checks the arguments of plain Python types, and adds those that follow the last given one and have a default.

    Args:
        graph: of a recording; edited in place.
        forward: the model's own, bound.
        given: the arguments that it was recorded with, by name.
    """
    placeholders = {str(node.target): node for node in graph.nodes if node.op == "placeholder"}
    checks = [
        (placeholders[name], value) for name, value in given.items() if name in placeholders and type(value) in _PLAIN
    ]
    last = next(reversed(placeholders.values()), None)
    starred = any(name.startswith("*") for name in placeholders)
    parameters = list(inspect.signature(forward).parameters.values())
    rest = parameters[max((i + 1 for i, p in enumerate(parameters) if p.name in given), default=0) :]
    for parameter in [] if starred or last is None else rest:
        if parameter.kind in _STARS or type(parameter.default) not in _PLAIN:
            break
        with graph.inserting_after(last):
            name = parameter.name
            last = graph.create_node("placeholder", name, (parameter.default,), name=name)
        checks.append((last, parameter.default))
    if last is not None:
        _check(graph, last, [(node, value, str(node.target)) for node, value in checks])


def guard_batch(graph: fx.Graph, batch: int) -> None:
    """Checks that the batch has the one size for which the graph holds."""
    source = next((n for n in graph.nodes if n.meta.get("shape", ())[:1] == (batch,) and n.op != "get_attr"), None)
    if source is not None:
        with graph.inserting_after(source):
            size = graph.call_method("size", (source, 0))
        _check(graph, size, [(size, batch, "batch_size")])


def guard_sizes(graph: fx.Graph, fixed: Collection[tuple[str, int]]) -> None:
    """Checks the dimensions of inputs, by (name of the node, dimension), at whose sizes alone the graph holds."""
    inputs = input_nodes(graph)
    for node in inputs:
        for dim, recorded in enumerate(node.meta.get("shape", ())):
            if (node.name, dim) in fixed:
                with graph.inserting_after(inputs[-1]):
                    size = graph.call_method("size", (node, dim))
                size.meta["guards"] = node.name
                _check(graph, size, [(size, recorded, f"{node.name}.size({dim})")])


def input_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The placeholders and what takes them apart."""
    found = []
    for node in graph.nodes:
        if node.op != "placeholder" and (node.target not in (operator.getitem, getattr) or "where" in node.meta):
            break
        found.append(node)
    return found


def _check(graph: fx.Graph, after: fx.Node, checks: list[tuple[fx.Node, Any, str]]) -> None:
    for node, value, name in reversed(checks):
        with graph.inserting_after(after):
            graph.call_function(expect, (node, value, name)).meta["guards"] = name
