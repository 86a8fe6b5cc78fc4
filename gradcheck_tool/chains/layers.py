"""Which nodes of a graph call a weight layer, and under what name: modules, and functions of a parameter.

Also what each node depends on: the input, or stored tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx, nn

from gradcheck_tool.chains.dataflow import Flow
from gradcheck_tool.chains.values import Call
from gradcheck_tool.operands import factors, is_made_to_measure
from gradcheck_tool.ops import Kind, Operation, operation_name


@dataclass(frozen=True)
class Layers:
    """`calls` are the weight-layer calls by their node, in order; `depends` says which nodes depend on the input;
    `parameters` names the parameter that a node is computed from where it does not; `repeated` numbers the layers that
    are called more than once; `modules` are those of the model."""

    calls: Mapping[fx.Node, Call]
    depends: Mapping[fx.Node, bool]
    parameters: Mapping[fx.Node, str]
    repeated: Mapping[str, int]
    modules: Mapping[str, nn.Module]


def find_layers(graph: fx.Graph, operations: Mapping[fx.Node, Operation], flow: Flow, model: nn.Module) -> Layers:
    """Finds the calls of weight layers in a recorded graph of `model`."""
    registered = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    calls: dict[fx.Node, Call] = {}
    depends: dict[fx.Node, bool] = {}
    parameters: dict[fx.Node, str] = {}
    stored: set[fx.Node] = set()
    counts: dict[str, int] = {}

    def add(node: fx.Node, layer: str, parameter: str, module: str | None) -> None:
        count = counts[layer] = counts.get(layer, 0) + 1
        calls[node] = Call(layer if count == 1 else f"{layer}@{count}", layer, parameter, module, node)

    for node in graph.nodes:
        sources = [source.node for source in flow.sources[node]]
        operation = operations.get(node)
        if operation is None:
            depends[node] = node.op == "placeholder"
            if node.op == "get_attr":
                stored.add(node)
                if node.target in registered:
                    parameters[node] = str(node.target)
            continue
        write = flow.writes.get(node)
        kept = [write.before.node] if write is not None and write.before is not None else []
        reads = operation.kind is not Kind.CONSTANT and not is_made_to_measure(operation)
        depends[node] = reads and any(depends[part] for part in (*sources, *kept))
        if operation.kind is Kind.WEIGHT:
            target = str(node.target)
            add(node, target, f"{target}.weight", target)
        elif operation.kind is Kind.CONTRACTION:
            parameter = _weight_among(node, depends, parameters, stored)
            if parameter is not None:
                add(node, parameter.removesuffix(".weight"), parameter, None)
        if not depends[node] and node not in calls:
            root = flow.roots[node]  # what forward overwrites is still that parameter
            parameter = parameters.get(root) or next((parameters[p] for p in sources if p in parameters), None)
            if parameter is not None:
                parameters[node] = parameter
            if any(part in stored for part in sources):
                stored.add(node)
    repeated = [layer for layer, count in counts.items() if count > 1]
    numbers = {layer: index for index, layer in enumerate(repeated)}
    return Layers(calls, depends, parameters, numbers, dict(model.named_modules(remove_duplicate=False)))


def _weight_among(
    node: fx.Node, depends: Mapping[fx.Node, bool], parameters: Mapping[fx.Node, str], stored: set[fx.Node]
) -> str | None:
    """The parameter that a matrix product takes for its weight: `x @ W` of an x that depends on the input or is made
    in forward (a first hidden state); `A @ B` of two stored tensors is no layer."""
    data, weights = factors(node)
    for weight in weights:
        if isinstance(weight, fx.Node) and weight in parameters and not depends[weight]:
            others = [part for part in data if isinstance(part, fx.Node) and part is not weight]
            if any(depends[part] or part not in stored for part in others):
                return parameters[weight]
    return None


def spatial_dims(call: Call, model: nn.Module) -> int:
    """0 behind a Linear, 1 to 3 behind a convolution. The weight of a module is not read for it: one that is computed
    is computed at each reading, and spectral norm steps its power iteration then, in the midst of a pass."""
    if call.module is not None:
        return len(getattr(model.get_submodule(call.module), "kernel_size", ()))
    return model.get_parameter(call.parameter).dim() - 2 if operation_name(call.node).startswith("conv") else 0
