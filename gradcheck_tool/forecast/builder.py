"""One network in the making: each node of a graph, in its order, becomes a vertex, or is refused with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import fx

from gradcheck_tool.forecast.axes import axis_behind
from gradcheck_tool.forecast.layers import NoForecast, check_tied
from gradcheck_tool.forecast.passing import PARTS
from gradcheck_tool.ops import Kind, is_tensor
from gradcheck_tool.theory import (
    INPUT,
    Activation,
    Add,
    Concat,
    Dropout,
    Gate,
    Network,
    Norm,
    Pool,
    Scale,
    Step,
    Upsample,
)

if TYPE_CHECKING:
    from gradcheck_tool.forecast.graph import GraphReader

_ADDITIONS = frozenset({"add", "__add__", "__iadd__", "__radd__"})
_SUBTRACTIONS = frozenset({"sub", "subtract", "__sub__", "__isub__"})
_PRODUCTS = frozenset({"mul", "multiply", "__mul__", "__imul__", "__rmul__"})
_CONCATENATIONS = frozenset({"cat", "concat", "concatenate"})
_CHANNELWISE = (Norm, Activation, Pool, Dropout, Scale, Upsample)
_MOST_PARTS = 64  # of a concatenation that stay apart, so that the cost is bounded; DenseNet-264 has 65


class Builder:
    """One network in the making."""

    def __init__(self, reader: GraphReader, norms: Mapping[fx.Node, Norm]) -> None:
        self.reader = reader
        self.norms = norms
        self.network = Network()
        self.vertices: dict[fx.Node, int] = {}
        self.axes: dict[fx.Node, int | None] = {}
        self.inputs = 0
        self.first_calls: dict[str, int] = {}
        self.structures: set[fx.Node] = set()
        self.unread: dict[int, fx.Node] = {}
        self.read: dict[int, int] = {}  # the vertex of the norm that was put behind a layer's, which all readers read
        self.applied: dict[tuple[Step, int], int] = {}  # the vertex that a step behind a vertex is

    def visit(self, node: fx.Node) -> None:
        """Appends what one node does."""
        reader = self.reader
        if node.op == "placeholder":
            self._input(node)
            return
        operation = reader.structure.operations[node]
        sources = reader.sources(node)
        if len(sources) == 1 and sources[0] in self.structures and operation.name == "getitem":
            self._input(node)
            return
        if any(source not in self.vertices for source in sources) or not sources:
            raise NoForecast(f"the theory has no rule for {operation.name}")
        if not is_tensor(node) and operation.name not in PARTS:
            raise NoForecast(f"the theory has no rule for {operation.name} with several results")
        call = reader.calls.get(node)
        if call is not None:
            if len(sources) > 1:
                raise NoForecast(f"the theory has no rule for the weight layer {call.name} of two inputs")
            vertex = self.network.add(Scale(), self.behind(sources[0]), name=call.name)  # the weights come later
            self.unread[vertex] = node
            self.axes[node] = reader.axis_of(node)
            norm = self.norms.get(node)
            self.vertices[node] = vertex
            if norm is not None:
                self.read[vertex] = self.network.add(norm, vertex)
            return
        self.axes[node] = axis_behind(node, operation.name, sources[0], self.axes[sources[0]])
        if len(sources) == 1:
            self.vertices[node] = self._one(node, sources[0])
        else:
            self.vertices[node] = self._several(node, sources)

    def _input(self, node: fx.Node) -> None:
        """An input of the net, or a structure of several, whose parts are inputs each."""
        if not is_tensor(node):
            self.structures.add(node)
            return
        if not node.meta["dtype"].is_floating_point:
            raise NoForecast(f"the input {node.name} holds whole numbers")
        self.vertices[node] = INPUT - self.inputs
        self.inputs += 1
        self.axes[node] = None

    def behind(self, node: fx.Node) -> int:
        """The vertex that readers of a node read: behind an inserted norm, where there is one."""
        vertex = self.vertices[node]
        return self.read.get(vertex, vertex)

    def _one(self, node: fx.Node, source: fx.Node) -> int:
        reader = self.reader
        operation = reader.structure.operations[node]
        if node in reader.structure.forms.norms:
            raise NoForecast("the theory has no rule for a normalization written by hand")
        step: Step | None
        if not is_tensor(source) and operation.name != "getitem":
            raise NoForecast(f"the theory has no rule for {operation.name} of several values")
        if operation.kind is Kind.NORMALIZATION:
            step = reader.norms.norm(node, source, self.axes[source])
        elif operation.kind is Kind.ACTIVATION:
            step = reader.functions.named(node)
        elif operation.kind is Kind.SUM and operation.name in _ADDITIONS and node.args[:2] == (source, source):
            step = Scale(4.0)
        elif operation.kind is Kind.PRODUCT and node.args[:2] == (source, source):
            step = reader.functions.spelled_out(source, node, operation.name)
        elif operation.name in _CONCATENATIONS and node.args[:1] == ([source],):
            step = None
        elif operation.kind is Kind.CUT:
            raise NoForecast("a gradient is cut off on the way")
        else:
            step = reader.passing.step(node, source, self.axes[source])
        return self.behind(source) if step is None else self._apply(step, self.behind(source))

    def _apply(self, step: Step, source: int) -> int:
        """A step behind a vertex; what acts on each channel by itself goes before a concatenation, part by part. What
        equal steps make of one vertex is one vertex: a part of many concatenations, as DenseNet has them, meets the
        same fresh norm in each."""
        key = step, source
        if key not in self.applied or isinstance(step, Dropout):  # which draws anew
            self.applied[key] = self._appended(step, source)
        return self.applied[key]

    def _appended(self, step: Step, source: int) -> int:
        vertex = self.network.vertices[source] if source >= 0 else None
        by_channel = isinstance(step, _CHANNELWISE) and not (isinstance(step, Norm) and step.over != "batch")
        by_channel = by_channel and not (isinstance(step, Activation) and step.gated)
        if vertex is not None and isinstance(vertex.step, Concat) and by_channel:
            return self.network.add(vertex.step, *(self._apply(step, part) for part in vertex.reads))
        return self.network.add(step, source)

    def _several(self, node: fx.Node, sources: list[fx.Node]) -> int:
        reader = self.reader
        operation = reader.structure.operations[node]
        name = operation.name
        if node in reader.structure.forms.norms or node in reader.structure.forms.internal:
            raise NoForecast("the theory has no rule for a normalization written by hand")
        if operation.kind in (Kind.SUM, Kind.PRODUCT, Kind.ACTIVATION):
            start = reader.functions.start_of(node, reader.depends)
            if start is not None and start in self.vertices:
                function = reader.functions.spelled_out(start, node, name)
                self.axes[node] = self.axes[start]
                return self._apply(function, self.behind(start))
        if len(sources) == 2 and operation.kind in (Kind.SUM, Kind.PRODUCT) and len(node.args) >= 2:
            one, other = (self.behind(source) for source in sources)
            plain = not node.kwargs.get("alpha") and not node.kwargs.get("rounding_mode")
            self.axes[node] = max(
                (self.axes[s] for s in sources if self.axes[s] is not None), default=None, key=lambda axis: axis or 0
            )
            if name in _ADDITIONS | _SUBTRACTIONS and plain and _same_shape(sources):
                return self.network.add(Add(negative=name in _SUBTRACTIONS), one, other)
            if name in _PRODUCTS:
                return self.network.add(Gate(), one, other)
        if name in _CONCATENATIONS:
            return self._concatenated(node, sources)
        raise NoForecast(f"the theory has no rule for {name} of several values")

    def _concatenated(self, node: fx.Node, sources: list[fx.Node]) -> int:
        tensors: Any = node.args[0] if node.args else node.kwargs.get("tensors")
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        shape = node.meta["shape"]
        axes = {self.axes[source] for source in sources} - {None}
        if not isinstance(dim, int) or not isinstance(tensors, (list, tuple)):
            raise NoForecast("the theory has no rule for such a concatenation")
        dim %= len(shape)
        if axes - {dim} or dim == 0 or any(part not in self.vertices for part in tensors):
            raise NoForecast("the theory has no rule for a concatenation along anything but channels")
        self.axes[node] = dim
        shares: list[float] = []
        reads: list[int] = []
        for part in tensors:
            vertex, share = self.behind(part), part.meta["shape"][dim] / shape[dim]
            inner = self.network.vertices[vertex] if vertex >= 0 else None
            if inner is not None and isinstance(inner.step, Concat):
                shares += [share * own for own in inner.step.shares]
                reads += inner.reads
            else:
                shares.append(share)
                reads.append(vertex)
        if len(reads) > _MOST_PARTS:
            raise NoForecast(f"more than {_MOST_PARTS} values are concatenated")
        return self.network.add(Concat(tuple(shares)), *reads)

    def place_weights(self) -> dict[fx.Node, int]:
        """Fills in the weights, as yet unread, now that all the rest is known to be understood."""
        reader = self.reader
        counts = Counter(reader.calls[node].layer for node in self.unread.values())
        for vertex, node in self.unread.items():
            call = reader.calls[node]
            weights = reader.layers.unread(call, None)
            if counts[call.layer] > 1:
                check_tied(call.layer, counts[call.layer], weights.read())
            tied = self.first_calls.setdefault(call.layer, vertex)
            self.network.vertices[vertex] = replace(self.network.vertices[vertex], step=weights, tied=tied)
        return self.vertices


def _same_shape(nodes: list[fx.Node]) -> bool:
    return len({node.meta.get("shape") for node in nodes}) == 1
