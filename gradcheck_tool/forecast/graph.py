"""The whole graph → a `theory.Network`, or the reason why the theory has nothing to say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx, nn

from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.forecast.builder import Builder
from gradcheck_tool.forecast.functions import FunctionReader
from gradcheck_tool.forecast.layers import LayerReader, NoForecast
from gradcheck_tool.forecast.norms import NormReader
from gradcheck_tool.forecast.passing import PassingReader
from gradcheck_tool.operands import is_made_to_measure
from gradcheck_tool.ops import Kind
from gradcheck_tool.theory import Network, Norm


@dataclass(frozen=True)
class Plan:
    """What a graph is to the theory: `network`; the vertex of each call of a weight layer; and the vertices at which
    the gradient starts, with the number of elements of each."""

    network: Network
    calls: Mapping[Call, int]
    starts: Mapping[int, int]


class GraphReader:
    """Translates one model's graph. Structure is looked at before any weight is read."""

    def __init__(self, model: nn.Module, structure: Structure, layers: LayerReader, functions: FunctionReader) -> None:
        self.model = model
        self.structure = structure
        self.functions = functions
        self.layers = layers
        self.norms = NormReader(model, structure.operations, layers)
        self.passing = PassingReader(model, structure.operations, layers)
        self.calls = {call.node: call for call in structure.calls}
        self.depends = _dependence(structure)

    def axis_of(self, node: fx.Node) -> int:
        """The axis of the channels behind the call of a weight layer."""
        call = self.calls[node]
        module = self.model.get_submodule(call.module) if call.module else None
        name = self.structure.operations[node].name.lower()
        return 1 if name.startswith("conv") or hasattr(module, "kernel_size") else len(node.meta["shape"]) - 1

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """The values that depend on the input, of those that a node reads.

        Raises:
            NoForecast: it reads memory that was written in part.
        """
        found = []
        for source in self.structure.flow.sources[node]:
            if not self.depends[source.node]:
                continue
            write = self.structure.flow.writes.get(source.node)
            if source.memory and write is not None and (write.before is not None or write.value is not None):
                raise NoForecast("a value is overwritten in part")
            found.append(source.node)
        return found

    def plan(self, norms: Mapping[fx.Node, Norm] | None = None) -> Plan:
        """The network of the whole graph; `norms` are inserted behind the calls of weight layers that they name.

        Raises:
            NoForecast: the theory has no rule for something in it; the message says for what.
        """
        wanted = frozenset(_feeding(self.structure, self.calls) | self.calls.keys())
        leaving = self._leaving(wanted)
        if len(leaving) != 1:
            wanted = self.structure.reaches_output
            leaving = self._outputs()
        builder = Builder(self, norms or {})
        for node in self.structure.graph.nodes:
            if node in wanted and self.depends[node] and node.op != "output":
                builder.visit(node)
        vertices = builder.place_weights()
        starts: dict[int, int] = {}
        for node in leaving:
            vertex = vertices.get(node)
            if vertex is None or vertex < 0 or "shape" not in node.meta:
                raise NoForecast("what the model returns is not understood")
            starts[vertex] = starts.get(vertex, 0) + math.prod(node.meta["shape"])
        if not starts:
            raise NoForecast("no weight layer reaches the model's output")
        calls = {call: vertices[call.node] for call in self.structure.calls if call.node in vertices}
        # What acts channel by channel was put before each concatenation, so that most of them are read no more.
        network, numbers = builder.network.without_idle_concatenations({*starts, *calls.values()})
        return Plan(
            network,
            {call: numbers[vertex] for call, vertex in calls.items()},
            {numbers[vertex]: size for vertex, size in starts.items()},
        )

    def _leaving(self, wanted: frozenset[fx.Node]) -> list[fx.Node]:
        """The values behind which no weight layer comes any more, and which the model's output is computed from."""
        reaches = self.structure.reaches_output
        flow = self.structure.flow
        return [
            node
            for node in self.structure.graph.nodes
            if node in wanted
            and node.op != "placeholder"
            and self.depends[node]
            and any(user in reaches and user not in wanted for user in flow.users[node])
        ]

    def _outputs(self) -> list[fx.Node]:
        output = next(node for node in self.structure.graph.nodes if node.op == "output")
        found: list[fx.Node] = []
        pending = list(output.all_input_nodes)
        while pending:
            node = pending.pop()
            if "shape" in node.meta:
                found += [node] if self.depends[node] else []
            else:
                pending.extend(node.all_input_nodes)
        return list(dict.fromkeys(found))


def _dependence(structure: Structure) -> dict[fx.Node, bool]:
    """Which nodes depend on the input."""
    depends: dict[fx.Node, bool] = {}
    for node in structure.graph.nodes:
        operation = structure.operations.get(node)
        if operation is None:
            depends[node] = node.op == "placeholder"
            continue
        reads = operation.kind is not Kind.CONSTANT and not is_made_to_measure(operation)
        depends[node] = reads and any(depends[source.node] for source in structure.flow.sources[node])
    return depends


def _feeding(structure: Structure, calls: Mapping[fx.Node, Call]) -> set[fx.Node]:
    """The nodes from which a path leads to a weight layer."""
    feeding: set[fx.Node] = set()
    for node in reversed(structure.graph.nodes):
        if any(user in feeding or user in calls for user in structure.flow.users[node]):
            feeding.add(node)
    return feeding
