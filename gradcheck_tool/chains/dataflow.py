"""Which value each node really reads: tensors that share memory, and writes in place, sorted out.

`y = x[:, 0]; y.relu_(); f(x)` reads what `relu_` wrote, though the graph names `x`. A graph → `Flow`, in one pass.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from gradcheck_tool.operands import covers_all, operands
from gradcheck_tool.ops import Kind, Operation, is_tensor

_VIEW_NAMES = """
    view view_as reshape reshape_as flatten ravel contiguous permute transpose t swapaxes swapdims movedim moveaxis
    squeeze unsqueeze expand expand_as select narrow chunk split split_with_sizes tensor_split hsplit vsplit dsplit
    unbind unfold diagonal as_strided unflatten detach alias view_as_real view_as_complex atleast_1d atleast_2d
    atleast_3d broadcast_to T mT H mH data real imag requires_grad Identity Flatten Unflatten"""
_VIEWS = frozenset(_VIEW_NAMES.split())
"""Ops whose result shares memory with their operand (some of them copy where they must; that is not seen)."""
_CASTS = frozenset(["to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu"])
"""Ops that return their operand itself where there is nothing to cast."""


@dataclass(frozen=True)
class Source:
    """One value that a node reads: that of `node`, or where `memory` is set, what the memory holds after it wrote."""

    node: fx.Node
    memory: bool = False


@dataclass(frozen=True)
class Write:
    """A node that writes in place: into the memory of `root`, whose content `before` is kept in part, or None where all
    of it is overwritten. `value` is what is written where that is another node's value, as in `x[0] = y`."""

    root: fx.Node
    before: Source | None
    value: Source | None


@dataclass(frozen=True)
class Flow:
    """`sources` are the values that each node is computed from, as they stand when it runs; `users` the nodes that read
    each node or what it wrote; `roots` the node whose memory each shares; `writes` the nodes that write in place."""

    sources: Mapping[fx.Node, tuple[Source, ...]]
    users: Mapping[fx.Node, tuple[fx.Node, ...]]
    roots: Mapping[fx.Node, fx.Node]
    writes: Mapping[fx.Node, Write]


def trace(graph: fx.Graph, operations: Mapping[fx.Node, Operation], modules: Mapping[str, nn.Module]) -> Flow:
    """The data flow of a recorded graph, in time linear in its nodes."""
    positions: dict[fx.Node, int] = {}
    roots: dict[fx.Node, fx.Node] = {}
    last_write: dict[fx.Node, fx.Node] = {}
    sources: dict[fx.Node, tuple[Source, ...]] = {}
    users: dict[fx.Node, list[fx.Node]] = {node: [] for node in graph.nodes}
    writes: dict[fx.Node, Write] = {}

    def read(node: fx.Node) -> Source:
        wrote = last_write.get(roots[node])
        return Source(wrote, True) if wrote is not None and positions[wrote] > positions[node] else Source(node)

    for position, node in enumerate(graph.nodes):
        positions[node] = position
        operation = operations.get(node)
        target = _written(node, modules) if operation is not None else None
        read_here = [read(part) for part in operands(node)]
        if target is not None and operation is not None:
            root = roots[target]
            before = read(root) if _keeps_a_part(node, operation, target, root) else None
            if operation.kind is Kind.ASSIGN:
                value = node.args[2] if len(node.args) > 2 and isinstance(node.args[2], fx.Node) else None
                writes[node] = Write(root, before, read(value) if value is not None else None)
                read_here = [read(part) for part in node.all_input_nodes if part is not target or part is value]
            elif operation.name == "copy" and before is None:
                writes[node] = Write(root, None, None)
                read_here = [read(part) for part in node.all_input_nodes if part is not target]
            else:
                writes[node] = Write(root, before, None)
            if before is not None:
                users[before.node].append(node)
            last_write[root] = node
            roots[node] = root
        else:
            roots[node] = _root(node, operation, roots)
        sources[node] = tuple(dict.fromkeys(read_here))
        for source in sources[node]:
            users[source.node].append(node)
    return Flow(sources, {node: tuple(dict.fromkeys(found)) for node, found in users.items()}, roots, writes)


def _root(node: fx.Node, operation: Operation | None, roots: Mapping[fx.Node, fx.Node]) -> fx.Node:
    source = node.args[0] if operation is not None and node.args else None
    if operation is None or not isinstance(source, fx.Node):
        return node
    shares = operation.name in _VIEWS or (
        operation.name in _CASTS and node.meta.get("dtype") == source.meta.get("dtype")
    )
    if operation.name == "getitem":
        shares = not is_tensor(source) or not _picks_by_index(node.args[1])
    return roots[source] if shares else node


def _picks_by_index(index: Any) -> bool:
    """Whether `x[index]` copies: an index that is a list or a tensor, not only numbers, slices and None."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, (list, fx.Node, Tensor)) for part in parts)


def written_operands(node: fx.Node, modules: Mapping[str, nn.Module]) -> list[fx.Node]:
    """The operands into whose memory a call writes: `x.relu_()`, `F.relu(x, inplace=True)`, `out=x`, `x[0] = y`,
    `x.data = y`, `torch._foreach_mul_([x], 2)`."""
    if not _is_in_place(node, modules):
        return []
    if node.kwargs.get("out") is not None:
        target: Any = node.kwargs["out"]
    elif node.args:
        target = node.args[0]
    else:
        target = next((node.kwargs[key] for key in ("tensor", "input", "self") if key in node.kwargs), None)
    return [part for part in (target if isinstance(target, (list, tuple)) else [target]) if isinstance(part, fx.Node)]


def _written(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    targets = written_operands(node, modules)
    return targets[0] if len(targets) == 1 else None


def _is_in_place(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return getattr(modules[str(node.target)], "inplace", False) is True
    if node.target is setattr:
        return node.args[1] == "data"
    if node.target is operator.setitem or node.kwargs.get("inplace") is True or node.kwargs.get("out") is not None:
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    name = name.partition(".")[0]
    return name.endswith("_") and not name.endswith("__") and name not in ("requires_grad_", "share_memory_", "rename_")


def _keeps_a_part(node: fx.Node, operation: Operation, target: fx.Node, root: fx.Node) -> bool:
    """Whether a write into `target` leaves elements of `root` as they were."""
    if operation.name == "setitem" and not covers_all(node.args[1]):
        return True
    sizes = [part.meta.get("shape") for part in (target, root)]
    return any(size is None for size in sizes) or math.prod(sizes[0]) < math.prod(sizes[1])  # type: ignore[arg-type]
