"""What lies ahead of a node: only the model's output, a gradient, a matrix product that a softmax weighs, a layer.

Each answer is one pass over the graph, from its end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import fx, nn

from gradcheck_tool.chains.dataflow import Flow
from gradcheck_tool.chains.layers import Layers
from gradcheck_tool.operands import bends, factors
from gradcheck_tool.ops import Kind, Operation
from gradcheck_tool.parametrized import still


def is_float(node: fx.Node) -> bool:
    """Whether a gradient can flow into a node's value: a floating or complex tensor, or a structure with tensors."""
    dtype = node.meta.get("dtype")
    return not isinstance(dtype, torch.dtype) or dtype.is_floating_point or dtype.is_complex


def cuts(node: fx.Node, operation: Operation | None) -> bool:
    """Whether no gradient goes back through a call, whatever its operands are."""
    if operation is None:
        return False
    discrete = "shape" in node.meta and not is_float(node)
    stops = operation.kind in (Kind.CUT, Kind.DISCRETE, Kind.CONSTANT) or node.target is setattr
    return stops or discrete or "no_grad" in node.meta


def find_heads(
    graph: fx.Graph,
    operations: Mapping[fx.Node, Operation],
    flow: Flow,
    layers: Layers,
    modules: Mapping[str, nn.Module],
) -> frozenset[fx.Node]:
    """The nodes behind which nothing is learned any more: what they compute goes into the model's output alone."""

    def learns(node: fx.Node) -> bool:
        kind = operations[node].kind if node in operations else None
        if node in layers.calls or kind is Kind.RECURRENT:
            return True
        if kind not in (Kind.OTHER, Kind.ATTENTION):
            return False
        if node.op == "call_module":
            return any(True for _ in modules[str(node.target)].parameters())
        return any(source.node in layers.parameters for source in flow.sources[node])

    heads: set[fx.Node] = set()
    unseen = any("opaque" in node.meta for node in graph.nodes)  # what is read by an op that was not recorded
    for node in reversed(graph.nodes):
        users = flow.users[node]
        if all(user in heads and not learns(user) for user in users) and (users or not unseen or node.op == "output"):
            heads.add(node)
    return frozenset(heads)


def find_live(graph: fx.Graph, operations: Mapping[fx.Node, Operation], flow: Flow) -> frozenset[fx.Node]:
    """The nodes from which a gradient flows back to the input."""
    live: set[fx.Node] = set()
    for node in graph.nodes:
        operation = operations.get(node)
        learned = operation is not None and operation.kind in (Kind.EMBEDDING, Kind.WEIGHT)
        begins = (node.op == "placeholder" and is_float(node)) or (learned and "no_grad" not in node.meta)
        behind = any(source.node in live for source in flow.sources[node])
        if begins or (behind and not cuts(node, operation)):
            live.add(node)
    return frozenset(live)


def find_reached(graph: fx.Graph, operations: Mapping[fx.Node, Operation], flow: Flow) -> frozenset[fx.Node]:
    """The nodes that a gradient comes back to, from the output or from a value that is kept elsewhere."""
    reached: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        users = flow.users[node]
        if not users or any(user in reached and not cuts(user, operations.get(user)) for user in users):
            reached.add(node)
    return frozenset(reached)


def find_attention(
    graph: fx.Graph, operations: Mapping[fx.Node, Operation], flow: Flow, layers: Layers
) -> frozenset[fx.Node]:
    """The softmaxes that weigh values: they reach a product with something else that depends on the input through
    passing ops alone, or through layers that mix the heads and leave the axis of the softmax as it is."""
    across = _softmax_axes(graph, operations, flow, layers)
    weighs: set[fx.Node] = set()  # the products themselves, and what reaches them
    attention: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node not in operations:
            continue
        kind = operations[node].kind
        several = sum(layers.depends[source.node] for source in flow.sources[node]) > 1
        ahead = any(user in weighs for user in flow.users[node])
        passes = kind in (Kind.PASSING, Kind.MIXING) or (kind in (Kind.SUM, Kind.PRODUCT) and not several)
        mixes = kind in (Kind.WEIGHT, Kind.CONTRACTION) and node in across
        if kind is Kind.SOFTMAX and ahead:
            attention.add(node)
        if (kind in (Kind.CONTRACTION, Kind.PRODUCT) and several) or (ahead and (passes or mixes)):
            weighs.add(node)
    return frozenset(attention)


# -- the axis of a softmax: by its position from the last, which is -1 ------------------------------------------------

_IN_PLACE_NAMES = """
    dropout Dropout identity Identity clone contiguous to type type_as float double half bfloat16 neg masked_fill
    nan_to_num alias"""
_IN_PLACE = frozenset(_IN_PLACE_NAMES.split())
"""Passing ops that leave every value where it is."""
_SWAPS = frozenset({"transpose", "swapaxes", "swapdims"})


def _softmax_axes(
    graph: fx.Graph, operations: Mapping[fx.Node, Operation], flow: Flow, layers: Layers
) -> Mapping[fx.Node, int]:
    """The axis over which a softmax was taken, for the softmaxes and for what lies behind them through linear maps over
    other axes. Where values move in other ways than by a permutation of the axes it is lost."""
    axes: dict[fx.Node, int] = {}
    for node in graph.nodes:
        operation = operations.get(node)
        behind = operation is not None and any(source.node in axes for source in flow.sources[node])
        if operation is None or not (behind or operation.kind is Kind.SOFTMAX):
            continue
        data = [source.node for source in flow.sources[node] if layers.depends[source.node]]
        if len(data) != 1 or any("shape" not in part.meta for part in (node, *data)):
            continue
        axis: int | None = None
        if operation.kind is Kind.SOFTMAX:
            axis = _axis_of(node, layers)
        elif data[0] in axes:
            axis = _axis_behind(node, operation, data[0], axes[data[0]], layers)
        if axis is not None:
            axes[node] = axis
    return axes


def _axis_of(node: fx.Node, layers: Layers) -> int | None:
    dim: object
    if node.op == "call_module":
        module = layers.modules[str(node.target)]
        dim = -3 if isinstance(module, nn.Softmax2d) else getattr(module, "dim", None)
    else:
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return _from_last(dim, len(node.meta["shape"])) if isinstance(dim, int) else None


def _from_last(dim: int, rank: int) -> int:
    return dim if dim < 0 else dim - rank


def _axis_behind(node: fx.Node, operation: Operation, data: fx.Node, axis: int, layers: Layers) -> int | None:
    """Where `axis` of `data` is in the result of a call; None where its values were mixed or moved about."""
    rank, same = len(data.meta["shape"]), node.meta["shape"] == data.meta["shape"]
    rest = node.args[1:]
    if operation.name == "permute":
        dims = rest[0] if rest and isinstance(rest[0], (list, tuple)) else rest or node.kwargs.get("dims")
        order = [_from_last(dim, rank) for dim in dims if isinstance(dim, int)] if isinstance(dims, Sequence) else []
        return order.index(axis) - rank if len(order) == rank and axis in order else None
    if operation.name in _SWAPS:
        pair = [_from_last(dim, rank) for dim in (*rest, *node.kwargs.values()) if isinstance(dim, int)]
        return None if len(pair) != 2 else pair[1 - pair.index(axis)] if axis in pair else axis
    if operation.kind in (Kind.WEIGHT, Kind.CONTRACTION):
        return axis if axis in _kept_by(node, operation, data, layers) else None
    arithmetic = operation.kind in (Kind.SUM, Kind.PRODUCT) and not bends(node, operation, data)
    return axis if same and (operation.name in _IN_PLACE or arithmetic) else None


def _kept_by(node: fx.Node, operation: Operation, data: fx.Node, layers: Layers) -> Collection[int]:
    """The axes of `data` along which a linear map does the same to each value: all but that which it sums over."""
    rank = len(data.meta["shape"])
    if node.op == "call_module":
        module = layers.modules[str(node.target)]
        weight, spatial = still(module), not isinstance(module, nn.Linear)
    else:
        others = [part for part in factors(node)[1] if isinstance(part, fx.Node) and part is not data]
        weight, spatial = others[0] if len(others) == 1 else None, operation.name.startswith("conv")
    shape = weight.meta.get("shape", ()) if isinstance(weight, fx.Node) else getattr(weight, "shape", ())
    if spatial:  # a convolution, of which those of one position mix channels alone
        pointwise = len(shape) > 2 and all(size == 1 for size in shape[2:])
        channels = 1 - len(shape)
        kept = pointwise and all(node.meta["shape"][at] == data.meta["shape"][at] for at in range(channels + 1, 0))
        return {at for at in range(-rank, 0) if at != channels} if kept else ()
    if operation.name == "einsum":
        return _kept_by_einsum(node, data, rank)
    if len(shape) != 2:
        return ()
    if operation.name in ("Linear", "linear"):
        return range(-rank, -1)
    if operation.name in ("matmul", "__matmul__", "mm"):
        return {at for at in range(-rank, 0) if at != (-1 if node.args[0] is data else -2)}
    return ()


def _kept_by_einsum(node: fx.Node, data: fx.Node, rank: int) -> Collection[int]:
    """The axes whose letters stand at the same place, from the last, in an operand of einsum and in its result."""
    equation = node.args[0]
    inputs, arrow, result = equation.replace(" ", "").partition("->") if isinstance(equation, str) else ("", "", "")
    parts = factors(node)[0]
    terms = inputs.split(",")
    if not arrow or "." in inputs or data not in parts or len(terms) != len(parts):
        return ()
    term, elsewhere = terms[parts.index(data)], [other for at, other in enumerate(terms) if parts[at] is not data]
    return {
        at
        for at in range(-min(rank, len(term), len(result)), 0)
        if term[at] == result[at] and not any(term[at] in other for other in elsewhere)
    }


def find_next_layers(
    graph: fx.Graph, operations: Mapping[fx.Node, Operation], flow: Flow, layers: Layers
) -> Mapping[fx.Node, int]:
    """The repeated layers that are called next on each node's value, through passing ops alone, as a set of bits."""
    ahead: dict[fx.Node, int] = {}
    if not layers.repeated:
        return ahead
    for node in reversed(graph.nodes):
        bits = 0
        for user in flow.users[node]:
            call = layers.calls.get(user)
            if call is not None:
                bits |= bit_of(call.layer, layers)
            elif user in ahead and operations[user].kind is Kind.PASSING:
                bits |= ahead[user]
        if bits:
            ahead[node] = bits
    return ahead


def bit_of(layer: str, layers: Layers) -> int:
    """The bit that stands for a repeated layer in a set of layers; none for one that is called once."""
    index = layers.repeated.get(layer)
    return 0 if index is None else 1 << index
