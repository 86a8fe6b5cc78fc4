"""What lies ahead of a node: only the model's output, a gradient, a matrix product that a softmax weighs, a layer.

Each answer is one pass over the graph, from its end.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx, nn

from gradcheck_tool.chains.dataflow import Flow
from gradcheck_tool.chains.layers import Layers
from gradcheck_tool.ops import Kind, Operation


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
    passing ops alone."""
    weighs: set[fx.Node] = set()  # the products themselves, and what reaches them
    attention: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node not in operations:
            continue
        kind = operations[node].kind
        several = sum(layers.depends[source.node] for source in flow.sources[node]) > 1
        ahead = any(user in weighs for user in flow.users[node])
        passes = kind in (Kind.PASSING, Kind.MIXING) or (kind in (Kind.SUM, Kind.PRODUCT) and not several)
        if kind is Kind.SOFTMAX and ahead:
            attention.add(node)
        if (kind in (Kind.CONTRACTION, Kind.PRODUCT) and several) or (ahead and passes):
            weighs.add(node)
    return frozenset(attention)


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
