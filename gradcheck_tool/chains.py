"""A recorded graph → its blocks, as a networkx DAG, and the chains that they form.

One pass over the nodes carries a `Signal` along every edge: the last block of the run that the value belongs to, and
the weight-layer call, if any, whose output it still is. What a chain is, in words: docs/chains.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import networkx as nx
import torch
from torch import fx, nn

from gradcheck_tool.norms import Forms, find_norms
from gradcheck_tool.ops import Kind, Operation, factors, is_tensor, lookup, operands
from gradcheck_tool.results import Unanalyzed


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a weight layer: `name` is `fc1`, the second call's `fc1@2`; `parameter` is the qualified name of the
    weight; `module` that of the module where a module was called, None for a functional layer."""

    name: str
    layer: str
    parameter: str
    module: str | None
    node: fx.Node


@dataclass(frozen=True, eq=False)
class Block:
    """A weight-layer call whose output reaches an activation. `parent` is the block before it in its run, `level` the
    number of blocks of the run up to here, `path` the nodes from the parent's activation to this call."""

    call: Call
    activation: fx.Node
    activation_name: str
    parent: Block | None
    level: int
    trail: Trail | None
    inner: Trail | None

    @property
    def inside(self) -> list[fx.Node]:
        """The nodes between this block's call and its activation, both left out."""
        nodes = []
        for node in _nodes(self.inner):
            if node is self.call.node:
                break
            nodes.append(node)
        return nodes[::-1]

    @property
    def path(self) -> list[fx.Node]:
        """The nodes between the parent's activation and this block's call, both left out, in the order they ran."""
        return list(_nodes(self.trail))[::-1]

    @property
    def name(self) -> str:
        return self.call.name


@dataclass(frozen=True, eq=False)
class Trail:
    """The nodes behind a value, back to the activation of its last block."""

    node: fx.Node
    before: Trail | None


def _nodes(trail: Trail | None) -> Iterator[fx.Node]:
    while trail is not None:
        yield trail.node
        trail = trail.before


@dataclass(frozen=True)
class Signal:
    """What is known of a node's value.

    `data`: it depends on the input; `grad`: and a gradient flows back that way. `parameter`: it is computed from this
    parameter alone. `run`: the last block of its run. `pending`: the weight-layer call whose output it is, through
    passing ops alone; `within`: the call from which it came elementwise, through activations too. `shared`: the layers
    that are called more than once and lie behind it.
    """

    data: bool = False
    grad: bool = False
    parameter: str | None = None
    run: Block | None = None
    pending: Call | None = None
    within: Call | None = None
    shared: frozenset[str] = frozenset()
    trail: Trail | None = None
    entry: Signal | None = None
    """The signal that went into `pending`, and into `within`: where the run stood before that call."""
    fed: Call | None = None
    """The weight-layer call whose output this still is, through passing ops and normalizations."""


@dataclass(frozen=True)
class Structure:
    """What the analysis of one graph found.

    `blocks` is a DAG whose nodes are the unnormalized blocks and whose edges lead from each block to those whose run
    goes on from it. `chains` are maximal runs, deepest first. `calls` are all weight-layer calls in their order;
    `activation_of` tells the activation that each reaches, through a normalization or not. `recurrent` are the layers
    that are stepped: called again on what came out of their own earlier call, with a new input added each time.
    """

    graph: fx.Graph
    operations: Mapping[fx.Node, Operation]
    calls: tuple[Call, ...]
    blocks: nx.DiGraph
    chains: tuple[tuple[Block, ...], ...]
    forms: Forms
    not_analyzed: tuple[Unanalyzed, ...]
    activation_of: Mapping[Call, fx.Node]
    recurrent: frozenset[str]

    @cached_property
    def reaches_output(self) -> frozenset[fx.Node]:
        """The nodes from which a path leads to the model's output."""
        reaching: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            if node.op == "output" or any(user in reaching for user in node.users):
                reaching.add(node)
        return frozenset(reaching)


def analyze(graph: fx.Graph, model: nn.Module) -> Structure:
    """Finds the blocks and chains of a graph that the recorder wrote, in time linear in its nodes.

    Args:
        graph: with shapes on its nodes.
        model: the model that was recorded; its modules and the names of its parameters are read.
    """
    return _Analysis(graph, model).run()


class _Analysis:
    def __init__(self, graph: fx.Graph, model: nn.Module) -> None:
        self.graph = graph
        modules = dict(model.named_modules(remove_duplicate=False))
        self.parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self.positions = {node: index for index, node in enumerate(graph.nodes)}
        self.activations: dict[Call, list[fx.Node]] = {}
        self.activation_of: dict[Call, fx.Node] = {}
        self.recurrent: set[str] = set()
        is_call = ("call_module", "call_function", "call_method")
        self.operations = {node: lookup(node, modules) for node in graph.nodes if node.op in is_call}
        self.signals: dict[fx.Node, Signal] = {}
        self.calls: list[Call] = []
        self.counts: dict[str, int] = {}
        self.blocks: dict[Call, Block] = {}

    def run(self) -> Structure:
        depends = self._dependence()
        self.forms = find_norms(self.operations, depends)
        self.heads = self._heads()
        self.repeated = self._repeated_layers()
        for node in self.graph.nodes:
            self.signals[node] = self._signal(node)
        blocks = nx.DiGraph()
        for block in self.blocks.values():
            if not all(self.heads[node] for node in self.activations[block.call]):
                blocks.add_node(block)
                if block.parent is not None:
                    blocks.add_edge(block.parent, block)
        return Structure(
            self.graph,
            self.operations,
            tuple(self.calls),
            blocks,
            decompose(blocks),
            self.forms,
            tuple(self._not_analyzed()),
            self.activation_of,
            frozenset(self.recurrent),
        )

    # -- passes before the main one -----------------------------------------------------------------------------------

    def _dependence(self) -> dict[fx.Node, bool]:
        depends: dict[fx.Node, bool] = {}
        for node in self.graph.nodes:
            depends[node] = node.op == "placeholder" or any(depends[part] for part in operands(node))
        return depends

    def _heads(self) -> dict[fx.Node, bool]:
        """Whether a node's value reaches nothing but the model's output, through passing ops (and activations, softmax
        or ops that are not understood) alone."""
        transparent = (Kind.PASSING, Kind.MIXING, Kind.ACTIVATION, Kind.SOFTMAX, Kind.OTHER, Kind.CUT, Kind.DISCRETE)
        heads: dict[fx.Node, bool] = {}
        for node in reversed(self.graph.nodes):
            heads[node] = all(
                user.op == "output" or (heads[user] and self.operations[user].kind in transparent) for user in node.users
            )
        return heads

    def _repeated_layers(self) -> set[str]:
        seen: set[str] = set()
        repeated: set[str] = set()
        for node in self.graph.nodes:
            if node.op == "call_module":
                target = str(node.target)
                (repeated if target in seen else seen).add(target)
            elif node.op == "get_attr" and len(node.users) > 1:
                repeated.add(_layer_of_parameter(str(node.target)))
        return repeated

    # -- the main pass ------------------------------------------------------------------------------------------------

    def _signal(self, node: fx.Node) -> Signal:
        if node.op == "placeholder":
            return Signal(data=True, grad=_is_float(node))
        if node.op == "get_attr":
            return Signal(parameter=str(node.target) if node.target in self.parameters else None)
        if node.op == "output":
            return Signal()
        operation = self.operations[node]
        if operation.kind is Kind.ASSIGN:
            return self._assign(node)
        known = [self.signals[part] for part in operands(node)]
        if not any(signal.data for signal in known):
            return Signal(parameter=next((signal.parameter for signal in known if signal.parameter), None))
        carrying = [signal for signal in known if signal.grad]
        call = self._weight_call(node, operation)
        if call is not None:
            return self._after_weight(node, call, carrying)
        if operation.kind is Kind.EMBEDDING:
            return Signal(data=True, grad=True, trail=Trail(node, None))
        discrete = is_tensor(node) and not _is_float(node)
        if operation.kind in (Kind.CUT, Kind.DISCRETE, Kind.CONSTANT) or not carrying or discrete or "no_grad" in node.meta:
            return Signal(data=True, within=known[0].within)  # within: x * (x > 0) is an activation of x's layer
        return self._after(node, operation, carrying, known)

    def _after(self, node: fx.Node, operation: Operation, carrying: list[Signal], known: list[Signal]) -> Signal:
        """The signal behind a call that is no weight layer; `carrying` are those operands that a gradient flows into."""
        kind, shared, one = operation.kind, _union(carrying), carrying[0]
        internal = node in self.forms.internal
        ends = kind in (Kind.NORMALIZATION, Kind.SOFTMAX, Kind.RECURRENT, Kind.OTHER) or node in self.forms.norms
        if ends or (kind is Kind.STATISTIC and not internal):
            fed = one.fed if kind is Kind.NORMALIZATION else None
            if node in self.forms.norms:
                fed = self.signals[self.forms.norms[node].base].fed
            return Signal(data=True, grad=True, shared=shared, trail=Trail(node, None), fed=fed)
        if kind is Kind.ATTENTION:
            return self._joined(node, carrying, shared)
        if kind in (Kind.SUM, Kind.PRODUCT, Kind.PASSING) and not internal:
            if self._is_own_function(operation, carrying, known, node):
                return self._activated(node, replace(one, pending=one.pending or one.within))
            if len(carrying) > 1 and one.within is not None and all(signal.within is one.within for signal in carrying):
                block = self.blocks.get(one.within)
                straight = next((signal for signal in carrying if signal.run is not block), one)
                return replace(one if block else straight, trail=Trail(node, one.trail))
        if len(carrying) > 1:
            return self._joined(node, carrying, shared)
        if kind is Kind.ACTIVATION and not internal:
            return self._activated(node, one)
        within = None if kind in (Kind.MIXING, Kind.CONTRACTION) else one.within
        return replace(one, within=within, trail=Trail(node, one.trail))

    def _is_own_function(self, operation: Operation, carrying: list[Signal], known: list[Signal], node: fx.Node) -> bool:
        """Whether a product, a selection or a masking of values is a nonlinear function of one layer's output alone:
        `h * sigmoid(h)`, `a * sigmoid(b)` of one split output, `x * x`, `x * (x > 0)`, `torch.maximum(x, 0 * x)`."""
        within = carrying[0].within
        if any(signal.data and signal.within is not within for signal in known):
            return False
        selects = operation.name in ("where", "maximum", "minimum", "max", "min", "fmax", "fmin")
        if len(carrying) == 1 and operation.name not in ("where", "masked_fill") and selects:
            return True  # torch.maximum(x, zero)
        if within is None:
            return False
        several = len(carrying) > 1 or any(signal.data and not signal.grad for signal in known)
        squared = operation.kind is Kind.PRODUCT and len(node.args) == 2 and node.args[0] is node.args[1]
        return (several and (selects or operation.kind is Kind.PRODUCT or operation.name == "masked_fill")) or squared

    def _activated(self, node: fx.Node, signal: Signal) -> Signal:
        """Behind a nonlinear function: if a layer's output came here through passing ops alone, that is a block."""
        if signal.fed is not None:
            self.activation_of.setdefault(signal.fed, node)
        call = signal.pending
        if call is None:
            return replace(signal, trail=Trail(node, signal.trail), fed=None)
        block = self.blocks.get(call)
        if block is None:
            before = signal.entry or Signal()
            level = 1 if before.run is None else before.run.level + 1
            name = self.operations[node].name
            block = self.blocks[call] = Block(call, node, name, before.run, level, before.trail, signal.trail)
        self.activations.setdefault(call, []).append(node)
        return Signal(True, True, None, block, None, signal.within, signal.shared, None, signal.entry)

    def _joined(self, node: fx.Node, carrying: list[Signal], shared: frozenset[str]) -> Signal:
        """Behind an op on several tensors that depend on the input."""
        recurrent = [signal for signal in carrying if self._comes_again(signal)]
        if len(recurrent) == 1 and len(carrying) > 1:
            layer = recurrent[0].pending.layer  # type: ignore[union-attr]
            if not any(layer in signal.shared for signal in carrying if signal is not recurrent[0]):
                self.recurrent.update(signal.pending.layer for signal in carrying if signal.pending)
                return replace(recurrent[0], shared=shared, trail=Trail(node, recurrent[0].trail))
        chosen = min(carrying, key=lambda signal: (_level(signal), self._order(signal.run)))
        return Signal(True, True, None, chosen.run, None, None, shared, Trail(node, chosen.trail))

    def _comes_again(self, signal: Signal) -> bool:
        """Whether a value is a layer's output that was computed from an earlier output of the same layer."""
        call = signal.pending
        return call is not None and signal.entry is not None and call.layer in signal.entry.shared

    def _order(self, block: Block | None) -> int:
        return -1 if block is None else self.positions[block.call.node]

    def _assign(self, node: fx.Node) -> Signal:
        """`x[i] = y`: from here on x carries what y carries."""
        target, value = node.args[0], node.args[2] if len(node.args) > 2 else None
        if isinstance(target, fx.Node) and isinstance(value, fx.Node):
            old, new = self.signals[target], self.signals[value]
            if new.grad:
                both = [old, new] if old.grad else [new]
                self.signals[target] = self._joined(node, both, _union(both)) if len(both) > 1 else new
        return Signal()

    # -- weight layers ------------------------------------------------------------------------------------------------

    def _weight_call(self, node: fx.Node, operation: Operation) -> Call | None:
        if operation.kind is Kind.WEIGHT:
            target = str(node.target)
            return self._new_call(node, target, f"{target}.weight", target)
        if operation.kind is not Kind.CONTRACTION:
            return None
        data, weights = factors(node)
        for weight in weights:
            if not isinstance(weight, fx.Node):
                continue
            parameter = self.signals[weight].parameter
            others = [part for part in data if isinstance(part, fx.Node) and part is not weight]
            if parameter is not None and any(self.signals[part].data for part in others):
                return self._new_call(node, _layer_of_parameter(parameter), parameter, None)
        return None

    def _new_call(self, node: fx.Node, layer: str, parameter: str, module: str | None) -> Call:
        count = self.counts[layer] = self.counts.get(layer, 0) + 1
        call = Call(layer if count == 1 else f"{layer}@{count}", layer, parameter, module, node)
        self.calls.append(call)
        return call

    def _after_weight(self, node: fx.Node, call: Call, carrying: list[Signal]) -> Signal:
        if len(carrying) > 1:  # Bilinear
            into = self._joined(node, carrying, _union(carrying))
        else:
            into = carrying[0] if carrying else Signal(data=True)
        shared = into.shared | {call.layer} if call.layer in self.repeated else into.shared
        return Signal(True, True, None, into.run, call, call, shared, Trail(node, into.trail), into, call)

    # -- what was not understood --------------------------------------------------------------------------------------

    def _not_analyzed(self) -> Iterator[Unanalyzed]:
        for node, operation in self.operations.items():
            signal = self.signals[node]
            if "opaque" in node.meta:
                yield Unanalyzed(node.name, str(node.meta["opaque"]))
            if not signal.grad or node in self.forms.norms or node in self.forms.internal:
                continue
            if operation.kind is Kind.OTHER:
                yield Unanalyzed(node.name, f"{operation.name} is not an operation that gradtool knows; the run ends there")
            elif operation.kind is Kind.RECURRENT:
                reason = f"the steps inside {operation.name} run fused and are not seen; the run ends there"
                yield Unanalyzed(node.name, reason)
            elif operation.kind is Kind.STATISTIC:
                yield Unanalyzed(node.name, f"{operation.name} outside a normalization; the run ends there")
            elif operation.kind is Kind.SOFTMAX and not self.heads[node] and not self._is_attention(node):
                yield Unanalyzed(node.name, f"{operation.name} in the middle of the model; the run ends there")

    def _is_attention(self, node: fx.Node) -> bool:
        """Whether a softmax weighs values: it reaches a matrix product through passing ops alone."""
        pending = list(node.users)
        while pending:
            user = pending.pop()
            kind = self.operations[user].kind if user in self.operations else None
            if kind is Kind.CONTRACTION:
                return True
            if kind in (Kind.PASSING, Kind.MIXING):
                pending.extend(user.users)
        return False


def decompose(blocks: nx.DiGraph) -> tuple[tuple[Block, ...], ...]:
    """Cuts the forest of blocks into chains: where a path forks, the longest continuation keeps the run (at a tie the
    one computed first), the others begin chains of their own. Deepest first, then in the order of computation."""
    order = list(blocks)  # in the order of the graph: parents come before their children
    longest: dict[Block, int] = {}
    onward: dict[Block, Block | None] = {}
    for block in reversed(order):
        best: Block | None = None
        for child in blocks.successors(block):
            if best is None or longest[child] > longest[best]:
                best = child
        onward[block] = best
        longest[block] = 1 + (longest[best] if best is not None else 0)
    continues = {child for child in onward.values() if child is not None}
    chains = []
    for start in order:
        if start not in continues:
            chain: list[Block] = []
            block: Block | None = start
            while block is not None:
                chain.append(block)
                block = onward[block]
            chains.append(tuple(chain))
    return tuple(sorted(chains, key=len, reverse=True))


def _layer_of_parameter(name: str) -> str:
    """A functional layer is called by its parameter: `fc.weight` → `fc`, `W1` → `W1`."""
    return name.removesuffix(".weight")


def _union(signals: list[Signal]) -> frozenset[str]:
    first = signals[0].shared
    if all(signal.shared is first for signal in signals):
        return first
    return frozenset().union(*(signal.shared for signal in signals))


def _level(signal: Signal) -> int:
    return 0 if signal.run is None else signal.run.level


def _is_float(node: fx.Node) -> bool:
    """Whether a gradient can flow into a node's value: a floating or complex tensor, or a structure with tensors."""
    dtype = node.meta.get("dtype")
    return not isinstance(dtype, torch.dtype) or dtype.is_floating_point or dtype.is_complex
