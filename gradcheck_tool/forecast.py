"""A chain of the graph → the stages that theory.py integrates → predicted decades, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from gradcheck_tool.chains import Block, Call, Structure
from gradcheck_tool.ops import Kind, factors, operands, operation_name
from gradcheck_tool.theory import (
    Activation,
    ConvGeometry,
    Prediction,
    Scale,
    Stage,
    Weights,
    activation_named,
    activation_of,
    predict,
    weights_of,
)

_MOVES = frozenset(
    """flatten reshape reshape_as view view_as permute transpose t T mT swapaxes swapdims movedim moveaxis squeeze unsqueeze
    contiguous clone to type type_as float double identity Identity Flatten Unflatten unflatten ravel alias requires_grad_
    pixel_shuffle pixel_unshuffle PixelShuffle PixelUnshuffle channel_shuffle ChannelShuffle""".split()
)
"""Passing ops that leave every element as it is: nothing for the theory to do."""


class NoForecast(Exception):
    """The theory has no rule for something in the chain; the message says for what."""


class Forecaster:
    """Predicts chains of one model. Weights are read once a layer."""

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        self.model = model
        self.structure = structure
        self._calls = {call.node: call for call in structure.calls}
        self._weights: dict[Any, Weights] = {}

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
        layers: set[str] = set()
        for position, block in enumerate(chain):
            if block.call.layer in layers:
                raise NoForecast(f"{block.call.layer} is used more than once, and the theory takes independent weights")
            layers.add(block.call.layer)
            if position:
                for node in block.path:
                    yield from self._passing(node)
            own_function = self.structure.operations[block.activation].kind is not Kind.ACTIVATION
            inside = [] if own_function else block.inside
            yield self._weights_of(block.call, self._bias_among(inside))
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
            yield self._weights_of(self._calls[node], None)
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
        return self._tensor(added[0]) if len(added) == 1 else None

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
        return self._tensor(value)

    def _own_function(self, block: Block) -> Activation:
        """A function of one layer's output written out in forward, as `h * sigmoid(h)`: the nodes between are run."""
        start, end = block.call.node, block.activation
        nodes: list[fx.Node] = []
        pending, seen = [end], {start}
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            kind = self.structure.operations[node].kind if node in self.structure.operations else None
            elementwise = kind in (Kind.ACTIVATION, Kind.PRODUCT, Kind.SUM, Kind.DISCRETE) and node.op != "call_module"
            if not elementwise or node.meta.get("shape") != start.meta.get("shape"):
                raise NoForecast(f"the theory has no rule for the function of {block.name} that forward spells out")
            nodes.append(node)
            pending.extend(operands(node))
        order = {node: index for index, node in enumerate(self.structure.graph.nodes)}
        nodes.sort(key=order.__getitem__)

        def function(x: Tensor) -> Tensor:
            values: dict[fx.Node, Any] = {start: x}
            for node in nodes:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)  # type: ignore[arg-type]
                if node.op == "call_method":
                    values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
                else:
                    values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            result: Tensor = values[end]
            return result

        return activation_of(function, "+".join(dict.fromkeys(operation_name(node) for node in nodes)))

    # -- weights ------------------------------------------------------------------------------------------------------

    def _weights_of(self, call: Call, bias: Tensor | None) -> Weights:
        if call.module is not None:
            module = self.model.get_submodule(call.module)
            key = (call.module, call.node.meta.get("shape"))
            if key not in self._weights:
                with _still(module):
                    weight, own_bias = module.weight, module.bias
                    assert isinstance(weight, Tensor)
                    geometry = self._geometry(call.node, vars(module)) if weight.dim() > 2 else None
                    self._weights[key] = _read(call, weight, own_bias if isinstance(own_bias, Tensor) else None, geometry)
            return self._weights[key]
        name = operation_name(call.node)
        weight, weight_first = self._functional_weight(call, name)
        geometry = None
        if name.startswith("conv"):
            names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
            if "transpose" in name:
                names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
            settings = dict(zip(names, call.node.args, strict=False)) | call.node.kwargs
            geometry = self._geometry(call.node, settings | {"kernel_size": tuple(weight.shape[2:]), "transposed": "transpose" in name})
        elif name != "linear" and not weight_first:
            weight = weight.transpose(-1, -2)
        if name in ("linear", "addmm") or name.startswith("conv"):
            at = 0 if name == "addmm" else 2
            own = call.node.args[at] if len(call.node.args) > at else call.node.kwargs.get("bias")
            bias = self._tensor(own) if isinstance(own, fx.Node) and own.op == "get_attr" else bias
        return _read(call, weight, bias, geometry)

    def _functional_weight(self, call: Call, name: str) -> tuple[Tensor, bool]:
        """The weight of a functional layer, and whether it is the first factor of a product (`W @ x`)."""
        if name in ("einsum", "tensordot", "bilinear", "baddbmm", "addbmm"):
            raise NoForecast(f"the theory has no rule for the weight layer {call.name}, written as {name}")
        data, weights = factors(call.node)
        for weight in weights:
            node, flipped = weight, False
            while isinstance(node, fx.Node) and node.op != "get_attr" and operation_name(node) in ("t", "T", "mT", "transpose"):
                node, flipped = node.args[0], not flipped
            if isinstance(node, fx.Node) and node.op == "get_attr" and node.target == call.parameter:
                tensor = self._tensor(node)
                return tensor.transpose(-1, -2) if flipped else tensor, len(data) > 1 and data[0] is weight
        raise NoForecast(f"the weight of {call.name} is computed in forward")

    def _geometry(self, node: fx.Node, settings: Any) -> ConvGeometry:
        kernel = tuple(settings["kernel_size"])
        rank = len(kernel)

        def axes(name: str, default: int) -> tuple[int, ...]:
            value = settings.get(name, default)
            return (value,) * rank if isinstance(value, int) else tuple(value)

        dilation = axes("dilation", 1)
        padding = settings.get("padding", 0)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            sides = tuple((t // 2, t - t // 2) for t in total)
        else:
            sides = tuple((p, p) for p in (axes("padding", 0) if padding != "valid" else (0,) * rank))
        source = node.args[0] if node.args else node.kwargs["input"]
        assert isinstance(source, fx.Node)
        return ConvGeometry(
            input_size=tuple(source.meta["shape"][-rank:]),
            output_size=tuple(node.meta["shape"][-rank:]),
            kernel=kernel,
            stride=axes("stride", 1),
            padding=sides,
            dilation=dilation,
            groups=int(settings.get("groups", 1)),
            transposed=bool(settings.get("transposed", False)),
            padding_mode=str(settings.get("padding_mode", "zeros")),
        )

    def _tensor(self, node: fx.Node) -> Tensor:
        value: Any = self.model
        for part in str(node.target).split("."):
            value = getattr(value, part, None)
        if not isinstance(value, Tensor):
            raise NoForecast(f"{node.target} cannot be read")
        return value


def _read(call: Call, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry | None) -> Weights:
    try:
        return weights_of(weight, bias, geometry=geometry)
    except ValueError as error:
        raise NoForecast(f"{call.name}: {error}") from error


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Reads a parametrized weight without a step of what computes it (spectral norm iterates while training)."""
    parts = list(module.parametrizations.modules()) if parametrize.is_parametrized(module) else []
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
