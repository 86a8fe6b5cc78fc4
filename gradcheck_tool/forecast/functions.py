"""Activations of a graph → `theory.Activation`: by name, or, where forward spells one out, by running its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.forecast.layers import LayerReader, NoForecast
from gradcheck_tool.operands import operands
from gradcheck_tool.ops import Kind, operation_name
from gradcheck_tool.parametrized import still
from gradcheck_tool.theory import Activation, activation_named, activation_of

_ELEMENTWISE = frozenset({Kind.ACTIVATION, Kind.PRODUCT, Kind.SUM, Kind.DISCRETE})
_LONGEST = 16  # nodes of a function that forward spells out; a hand-written GELU has nine


class FunctionReader:
    """Reads the activations of one model."""

    def __init__(self, model: nn.Module, structure: Structure, layers: LayerReader) -> None:
        self.model = model
        self.structure = structure
        self._layers = layers
        self._functions: dict[str, Activation] = {}
        self._order = {node: index for index, node in enumerate(structure.graph.nodes)}

    def named(self, node: fx.Node) -> Activation:
        """The activation that one node calls.

        Raises:
            NoForecast: the theory does not know it.
        """
        name = self.structure.operations[node].name
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            constants = getattr(module, "__constants__", ())
            options = {key: getattr(module, key) for key in constants if key not in ("inplace", "num_parameters")}
            if isinstance(module, nn.PReLU):
                options = {"weight": still(module)}
            found = activation_named(type(module).__name__, **options)
        else:
            rest = [self._constant(value) for value in node.args[1:]]
            found = activation_named(name, *rest, **{key: self._constant(v) for key, v in node.kwargs.items()})
        if found is None:
            raise NoForecast(f"the theory does not know the activation {name}")
        return found

    def _constant(self, value: Any) -> Any:
        if not isinstance(value, fx.Node):
            return value
        if value.op != "get_attr":
            raise NoForecast("an activation depends on a computed value")
        return self._layers.tensor(value)

    def spelled_out(self, start: fx.Node, end: fx.Node, what: str) -> Activation:
        """A function of one value written out in forward, as `h * sigmoid(h)`: the nodes between are run.

        Raises:
            NoForecast: they do more than elementwise arithmetic, or cannot be run.
        """
        nodes = self._elementwise_between(start, end)
        if nodes is None:
            raise NoForecast(f"the theory has no rule for the function of {what} that forward spells out")
        places = {node: index for index, node in enumerate([start, *nodes])}
        spelling = repr([fx.node.map_arg((n.op, str(n.target), n.args, n.kwargs), places.__getitem__) for n in nodes])
        if spelling not in self._functions:
            name = "+".join(dict.fromkeys(operation_name(node) for node in nodes))
            try:
                self._functions[spelling] = activation_of(_interpreter(start, nodes), name)
            except (RuntimeError, TypeError, ValueError) as error:
                raise NoForecast(f"the function {name} of {what} cannot be evaluated: {error}") from error
        return self._functions[spelling]

    def _elementwise_between(self, start: fx.Node, end: fx.Node) -> list[fx.Node] | None:
        """The nodes that compute `end` from `start`, in order; None where they do more than elementwise arithmetic."""
        found: set[fx.Node] = set()
        pending = [end]
        while pending:
            node = pending.pop()
            if node is start or node in found:
                continue
            if not self._is_elementwise(node) or node.meta.get("shape") != start.meta.get("shape"):
                return None
            found.add(node)
            pending.extend(operands(node))
        return sorted(found, key=self._order.__getitem__)

    def _is_elementwise(self, node: fx.Node) -> bool:
        operation = self.structure.operations.get(node)
        return operation is not None and operation.kind in _ELEMENTWISE and node.op != "call_module"

    def start_of(self, end: fx.Node, depends: Mapping[fx.Node, bool]) -> fx.Node | None:
        """The one value of which `end` is an elementwise function, through any number of ways; None where there is
        none near."""
        frontier = {end}
        for _ in range(_LONGEST):
            node = max(frontier, key=self._order.__getitem__)
            if node is not end and len(frontier) == 1:
                return node
            if not self._is_elementwise(node):
                return None
            frontier.discard(node)
            frontier.update(part for part in operands(node) if depends.get(part))
        return None


def _interpreter(start: fx.Node, nodes: Sequence[fx.Node]) -> Callable[[Tensor], Tensor]:
    """The function that `nodes` compute, the last of them its value, of the value of `start`."""

    def function(x: Tensor) -> Tensor:
        values: dict[fx.Node, Any] = {start: x}
        for node in nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            if node.op == "call_method":
                values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        result: Tensor = values[nodes[-1]]
        return result

    return function
