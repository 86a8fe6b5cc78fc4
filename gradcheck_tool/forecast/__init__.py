"""A chain of the graph → the stages that theory.py integrates → predicted decades, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, fx, nn

from gradcheck_tool.chains import Block, Structure
from gradcheck_tool.forecast.layers import LayerReader, NoForecast
from gradcheck_tool.ops import Kind, operands, operation_name
from gradcheck_tool.theory import Activation, Prediction, Scale, Stage, activation_named, activation_of, predict

_MOVES = frozenset(
    (
        *("flatten", "reshape", "reshape_as", "view", "view_as", "unflatten", "ravel", "squeeze", "unsqueeze"),
        *("permute", "transpose", "t", "T", "mT", "swapaxes", "swapdims", "movedim", "moveaxis", "contiguous", "clone"),
        *("to", "type", "type_as", "float", "double", "identity", "alias", "requires_grad"),
        *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
        *("Identity", "Flatten", "Unflatten", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
    )
)
"""Passing ops that leave every element as it is: nothing for the theory to do."""


_ELEMENTWISE = frozenset({Kind.ACTIVATION, Kind.PRODUCT, Kind.SUM, Kind.DISCRETE})


class Forecaster:
    """Predicts chains of one model. Weights are read once a layer."""

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        self.model = model
        self.structure = structure
        self._calls = {call.node: call for call in structure.calls}
        self._layers = LayerReader(model)
        self._functions: dict[str, Activation] = {}
        self._order = {node: index for index, node in enumerate(structure.graph.nodes)}

    def predict(self, chain: Sequence[Block]) -> Prediction:
        """The predicted change of the gradient norm over a chain, for inputs of unit second moment."""
        if any(parameter.is_meta for parameter in self.model.parameters()):
            return Prediction(None, "there are no weights to read (the model is on the meta device)")
        if len(chain) == 1:
            return Prediction(0.0)
        try:
            return predict(list(self._stages(chain)))
        except NoForecast as reason:
            return Prediction(None, str(reason))

    def _stages(self, chain: Sequence[Block]) -> Iterator[Stage]:
        layers = [block.call.layer for block in chain]
        if len(set(layers)) < len(layers):
            again = next(layer for position, layer in enumerate(layers) if layer in layers[:position])
            raise NoForecast(f"{again} is used more than once, and the theory takes independent weights")
        for position, block in enumerate(chain):
            if position:
                for node in block.path:
                    yield from self._passing(node)
            own_function = self.structure.operations[block.activation].kind is not Kind.ACTIVATION
            inside = [] if own_function else block.inside
            yield self._layers.weights_of(block.call, self._bias_among(inside))
            if position == len(chain) - 1:
                return
            for node in inside:
                yield from self._passing(node)
            yield self._own_function(block) if own_function else self._activation(block.activation)

    # -- between the weight layers ------------------------------------------------------------------------------------

    def _passing(self, node: fx.Node) -> Iterator[Stage]:
        """The stages of a node between two activations; none for one that leaves every element as it is."""
        operation = self.structure.operations[node]
        if node in self._calls:
            yield self._layers.weights_of(self._calls[node], None)
        elif operation.kind is Kind.ACTIVATION:
            yield self._activation(node)
        elif "dropout" in operation.name.lower():
            yield Scale(1.0 / (1.0 - self._dropout(node)))
        elif operation.kind is Kind.PRODUCT and len(operands(node)) == 1:
            yield Scale(self._factor(node, operation.name) ** 2)
        elif operation.kind is Kind.SUM and self._added_parameter(node) is not None:
            return  # the bias of a functional layer, which its Weights hold
        elif operation.name not in _MOVES:
            raise NoForecast(f"the theory has no rule for {operation.name} between two of its blocks")

    def _dropout(self, node: fx.Node) -> float:
        if node.op == "call_module":
            module: Any = self.model.get_submodule(str(node.target))
            rate, training = module.p, module.training or not self.model.training
        else:
            settings = dict(zip(("p", "training"), node.args[1:3], strict=False)) | node.kwargs
            rate, training = settings.get("p", 0.5), settings.get("training", True)
        if not training or not isinstance(rate, (int, float)):
            return 0.0
        if rate >= 1:
            raise NoForecast("a dropout of everything lies between two of its blocks")
        return float(rate)

    def _factor(self, node: fx.Node, name: str) -> float:
        first, second = node.args[:2]
        number = second if isinstance(first, fx.Node) else first
        if not isinstance(number, (int, float)) or number == 0:
            raise NoForecast(f"the theory has no rule for {name} between two of its blocks")
        return float(number) if "mul" in name else 1.0 / float(number)

    def _bias_among(self, nodes: Sequence[fx.Node]) -> Tensor | None:
        return next((bias for node in nodes if (bias := self._added_parameter(node)) is not None), None)

    def _added_parameter(self, node: fx.Node) -> Tensor | None:
        """b of `x @ W + b`."""
        if self.structure.operations[node].kind is not Kind.SUM:
            return None
        added = [part for part in node.args[:2] if isinstance(part, fx.Node) and part.op == "get_attr"]
        return self._layers.tensor(added[0]) if len(added) == 1 else None

    # -- activations --------------------------------------------------------------------------------------------------

    def _activation(self, node: fx.Node) -> Activation:
        name = self.structure.operations[node].name
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            constants = getattr(module, "__constants__", ())
            options = {key: getattr(module, key) for key in constants if key not in ("inplace", "num_parameters")}
            if isinstance(module, nn.PReLU):
                options = {"weight": module.weight}
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

    def _own_function(self, block: Block) -> Activation:
        """A function of one layer's output written out in forward, as `h * sigmoid(h)`: the nodes between are run."""
        start, end = block.call.node, block.activation
        nodes = self._elementwise_between(start, end)
        if nodes is None:
            raise NoForecast(f"the theory has no rule for the function of {block.name} that forward spells out")
        places = {node: index for index, node in enumerate([start, *nodes])}
        spelling = repr([fx.node.map_arg((n.op, str(n.target), n.args, n.kwargs), places.__getitem__) for n in nodes])
        if spelling not in self._functions:
            name = "+".join(dict.fromkeys(operation_name(node) for node in nodes))
            try:
                self._functions[spelling] = activation_of(_interpreter(start, nodes), name)
            except (RuntimeError, TypeError, ValueError) as error:
                raise NoForecast(f"the function {name} of {block.name} cannot be evaluated: {error}") from error
        return self._functions[spelling]

    def _elementwise_between(self, start: fx.Node, end: fx.Node) -> list[fx.Node] | None:
        """The nodes that compute `end` from `start`, in order; None where they do more than elementwise arithmetic."""
        found: set[fx.Node] = set()
        pending = [end]
        while pending:
            node = pending.pop()
            if node is start or node in found:
                continue
            operation = self.structure.operations.get(node)
            elementwise = operation is not None and operation.kind in _ELEMENTWISE and node.op != "call_module"
            if not elementwise or node.meta.get("shape") != start.meta.get("shape"):
                return None
            found.add(node)
            pending.extend(operands(node))
        return sorted(found, key=self._order.__getitem__)


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
