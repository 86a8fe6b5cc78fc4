"""A weight layer's call → the statistics and the geometry that the theory needs of it, read off the real tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from gradcheck_tool.chains import Call
from gradcheck_tool.operands import factors
from gradcheck_tool.ops import operation_name
from gradcheck_tool.parametrized import still
from gradcheck_tool.theory import ConvGeometry, Unread, Weights, check_readable, weights_of, with_bias

_CONV_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_FLIPS = ("t", "T", "mT", "transpose")


TIED_LIMIT = 4.0
"""calls² over fan-in, up to which a layer that is called again does what new weights of its kind would. Measured over 5
to 40 calls at widths of 16 to 128 (ReLU and tanh, He): the mean is right to 0.1 decades up to 4, to 0.3 at 12."""


class NoForecast(Exception):
    """The theory has no rule for something in the chain; the message says for what."""


def check_tied(layer: str, calls: int, weights: Weights) -> None:
    """Whether the theory, which takes independent weights, may be applied to a layer that is called several times.

    In wide nets it may: gradients are as independent of the weights as if these were new (Chen et al. 2018 for
    recurrent nets; Yang 2019, Tensor Programs). High powers of one small matrix are ruled by its largest eigenvalue.

    Raises:
        NoForecast: it may not.
    """
    if calls > 1 and calls**2 > TIED_LIMIT * weights.fan_in:
        raise NoForecast(
            f"{layer} is used {calls} times, too often for its {weights.fan_in} inputs, and the theory takes "
            "independent weights"
        )


class LayerReader:
    """Reads the weight layers of one model, each once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._unread: dict[Any, Unread] = {}
        self._weights: dict[Any, Weights] = {}

    def weights_of(self, call: Call, bias: Tensor | None) -> Weights:
        """What the theory needs of the layer behind `call`; `bias` is one that is added outside of a functional layer.

        Raises:
            NoForecast: the weight cannot be read.
        """
        return self.unread(call, bias).read()

    def unread(self, call: Call, bias: Tensor | None) -> Unread:
        """As `weights_of`, but that no element of a tensor is looked at before it is asked for.

        Raises:
            NoForecast: the weight cannot be read.
        """
        if call.module is None:
            return self._functional(call, bias)
        key = (call.module, call.node.meta.get("shape"))
        if key not in self._unread:
            self._unread[key] = self._of_module(call, self.model.get_submodule(call.module))
        return self._unread[key]

    def _of_module(self, call: Call, module: nn.Module) -> Unread:
        weight, bias = still(module), still(module, "bias")
        assert isinstance(weight, Tensor)
        geometry = _geometry(call.node, vars(module)) if weight.dim() > 2 else None
        unread = self._at(call, call.module, weight, bias if isinstance(bias, Tensor) else None, geometry)
        if not parametrize.is_parametrized(module):
            return unread
        weights = unread.read()  # now: a weight that was computed for this is not to be kept
        return Unread(lambda: weights)

    def _functional(self, call: Call, bias: Tensor | None) -> Unread:
        name = operation_name(call.node)
        weight, weight_first = self._functional_weight(call, name)
        geometry = None
        if name.startswith("conv"):
            transposed = "transpose" in name
            names = _TRANSPOSED_ARGUMENTS if transposed else _CONV_ARGUMENTS
            settings = dict(zip(names, call.node.args, strict=False)) | call.node.kwargs
            own = {"kernel_size": tuple(weight.shape[2:]), "transposed": transposed}
            geometry = _geometry(call.node, settings | own)
        elif name != "linear" and not weight_first:
            weight = weight.transpose(-1, -2)
        if name in ("linear", "addmm") or name.startswith("conv"):
            at = 0 if name == "addmm" else 2
            given = call.node.args[at] if len(call.node.args) > at else call.node.kwargs.get("bias")
            bias = self.tensor(given) if isinstance(given, fx.Node) and given.op == "get_attr" else bias
        return self._at(call, call.parameter, weight, bias, geometry)

    def _at(
        self, call: Call, name: str | None, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry | None
    ) -> Unread:
        """The layer of one call, once it is known that its tensors can be read. `name` and the way in which they are
        looked at say which weights are the same: where in a map they are applied does not matter to their
        statistics."""
        try:
            check_readable(weight)
            if bias is not None:
                check_readable(bias)
        except ValueError as error:
            raise NoForecast(f"{call.name}: {error}") from error
        way = (geometry.groups, geometry.transposed) if geometry is not None else ()
        key = (name, weight.shape, weight.stride(), *way)
        known = self._weights  # alone: a function that knew `self` would keep the model until the next collection

        def read() -> Weights:
            if key not in known:
                known[key] = weights_of(weight, geometry=geometry)
            return with_bias(replace(known[key], geometry=geometry), bias)

        return Unread(cache(read))

    def _functional_weight(self, call: Call, name: str) -> tuple[Tensor, bool]:
        """The weight of a functional layer, and whether it is the first factor of a product (`W @ x`)."""
        if name in ("einsum", "tensordot", "bilinear", "baddbmm", "addbmm"):
            raise NoForecast(f"the theory has no rule for the weight layer {call.name}, written as {name}")
        data, weights = factors(call.node)
        for weight in weights:
            node, flipped = weight, False
            while isinstance(node, fx.Node) and node.op != "get_attr" and operation_name(node) in _FLIPS:
                node, flipped = node.args[0], not flipped
            if isinstance(node, fx.Node) and node.op == "get_attr" and node.target == call.parameter:
                tensor = self.tensor(node)
                return tensor.transpose(-1, -2) if flipped else tensor, len(data) > 1 and data[0] is weight
        raise NoForecast(f"the weight of {call.name} is computed in forward")

    def tensor(self, node: fx.Node) -> Tensor:
        """The tensor that a `get_attr` node names.

        Raises:
            NoForecast: there is none of that name any more.
        """
        value: Any = self.model
        for part in str(node.target).split("."):
            value = getattr(value, part, None)
        if not isinstance(value, Tensor):
            raise NoForecast(f"{node.target} cannot be read")
        return value


def _geometry(node: fx.Node, settings: Mapping[str, Any]) -> ConvGeometry:
    """The spatial side of a convolution's call, by the names of its module's attributes."""
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


def window_geometry(node: fx.Node, source: fx.Node, rank: int, settings: Mapping[str, Any]) -> ConvGeometry:
    """The windows of a pooling op over `rank` axes, by the names of its module's attributes."""
    kernel = settings.get("kernel_size")
    sizes = (kernel,) * rank if isinstance(kernel, int) else tuple(kernel or ())

    def axes(name: str, default: Any) -> tuple[int, ...]:
        value = settings.get(name)
        value = default if value is None or value == () or value == [] else value
        return (value,) * rank if isinstance(value, int) else tuple(value)

    return ConvGeometry(
        input_size=tuple(source.meta["shape"][-rank:]),
        output_size=tuple(node.meta["shape"][-rank:]),
        kernel=sizes,
        stride=axes("stride", sizes),
        padding=tuple((p, p) for p in axes("padding", 0)),
        dilation=axes("dilation", 1),
    )
