"""A node with one input, which is neither weight layer nor activation → the step that the theory knows of it.

Moves and dropout, constants and learned tensors that are added or multiplied, pooling, upsampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from gradcheck_tool.forecast.layers import LayerReader, NoForecast, window_geometry
from gradcheck_tool.ops import Kind, Operation
from gradcheck_tool.theory import Dropout, Pool, Scale, Shift, Step, Upsample

MOVES = frozenset(
    (
        *("flatten", "reshape", "reshape_as", "view", "view_as", "unflatten", "ravel", "squeeze", "unsqueeze"),
        *("permute", "transpose", "t", "T", "mT", "swapaxes", "swapdims", "movedim", "moveaxis", "contiguous", "clone"),
        *("to", "type", "type_as", "float", "double", "identity", "alias", "requires_grad"),
        *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "roll", "flip"),
        *("Identity", "Flatten", "Unflatten", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
    )
)
"""Passing ops that leave every element as it is: nothing for the theory to do."""
PARTS = frozenset({"getitem", "chunk", "split", "split_with_sizes", "tensor_split", "unbind", "select", "narrow"})
"""Ops that take a part: its elements are like the others, and the gradients of all parts add up."""
_POOLS = {"avg_pool": "average", "AvgPool": "average", "max_pool": "maximum", "MaxPool": "maximum"}


class PassingReader:
    """Reads what lies between the weight layers of one model."""

    def __init__(self, model: nn.Module, operations: Mapping[fx.Node, Operation], layers: LayerReader) -> None:
        self.model = model
        self.operations = operations
        self._layers = layers

    def step(self, node: fx.Node, source: fx.Node, axis: int | None = 1) -> Step | None:
        """The step of `node`, which reads `source`; None where it leaves every element as it is. `axis` is that of the
        channels in `source`, where it is known.

        Raises:
            NoForecast: the theory has no rule for it.
        """
        operation = self.operations[node]
        name = operation.name
        if name in MOVES or name in PARTS:
            return None
        if "dropout" in name.lower():
            if "alpha" in name.lower():
                raise NoForecast(f"the theory has no rule for {name}")
            return Dropout(self._dropout(node))
        if operation.kind is Kind.PRODUCT:
            return self._product(node, name, source)
        if operation.kind is Kind.SUM:
            return self._sum(node, name, source)
        if name in ("neg", "negative", "__neg__"):
            return Scale(1.0, negative=True)
        if operation.kind is Kind.MIXING:
            return self._mixing(node, name, source, axis)
        raise NoForecast(f"the theory has no rule for {name} between two weight layers")

    # -- constants and learned tensors ---------------------------------------------------------------------------------

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
            raise NoForecast("a dropout of everything lies between two weight layers")
        return float(rate)

    def _product(self, node: fx.Node, name: str, source: fx.Node) -> Step:
        first, second = (*node.args, None)[:2]
        other = second if first is source else first
        if isinstance(other, (int, float)) and other != 0 and ("mul" in name or first is source):
            return Scale(float(other) ** 2 if "mul" in name else float(other) ** -2, negative=other < 0)
        if isinstance(other, fx.Node) and other.op == "get_attr" and "mul" in name:
            second_moment, _ = _moments(self._layers.tensor(other))
            return Scale(second_moment)  # a learned scale a channel
        raise NoForecast(f"the theory has no rule for {name} between two weight layers")

    def _sum(self, node: fx.Node, name: str, source: fx.Node) -> Step:
        first, second = (*node.args, None)[:2]
        if isinstance(second, (int, float)) and first is source and not node.kwargs and len(node.args) == 2:
            if name in ("add", "__add__", "__iadd__"):
                return Shift(float(second) ** 2, float(second))
            if name in ("sub", "subtract", "__sub__", "__isub__"):
                return Shift(float(second) ** 2, -float(second))
        added = self.added_parameter(node)
        if added is None or name not in ("add", "__add__", "__iadd__", "__radd__"):
            raise NoForecast(f"the theory has no rule for {name} between two weight layers")
        return Shift(*_moments(added))

    def added_parameter(self, node: fx.Node) -> Tensor | None:
        """b of `x @ W + b`."""
        if self.operations[node].kind is not Kind.SUM:
            return None
        added = [part for part in node.args[:2] if isinstance(part, fx.Node) and part.op == "get_attr"]
        return self._layers.tensor(added[0]) if len(added) == 1 else None

    # -- pooling -------------------------------------------------------------------------------------------------------

    def _mixing(self, node: fx.Node, name: str, source: fx.Node, axis: int | None) -> Step:
        before, after = source.meta.get("shape"), node.meta.get("shape")
        if before is None or after is None:
            raise NoForecast(f"the theory has no rule for {name} with several results")
        if name == "mean":
            return self._mean(node, before, axis)
        if name.lower().startswith("adaptive"):
            rank = int(name[-2])
            size = tuple(after[-rank:])
            ratio = math.prod(before[-rank:]) / max(math.prod(size), 1)
            if ratio <= 1.0:
                return Upsample(size)  # more positions than there were: windows of one
            whole = math.prod(size) == 1
            return Pool("maximum" if "max" in name.lower() else "average", ratio, None, () if whole else size)
        for prefix, kind in _POOLS.items():
            if name.startswith(prefix):
                geometry = window_geometry(node, source, int(name[len(prefix)]), self._settings(node))
                values = math.prod(geometry.kernel)
                return Pool("average" if kind == "average" else "maximum", values, geometry)
        if name in ("interpolate", "upsample", "upsample_nearest", "Upsample", "UpsamplingNearest2d"):
            mode = self._settings(node).get("mode", "nearest")
            grows = all(b <= a for b, a in zip(before[2:], after[2:], strict=True))
            if mode in ("nearest", "nearest-exact") and grows:
                return Upsample(tuple(after[2:]))
            raise NoForecast(f"the theory has no rule for {name} of mode {mode}")
        raise NoForecast(f"the theory has no rule for {name} between two weight layers")

    def _mean(self, node: fx.Node, before: tuple[int, ...], axis: int | None) -> Step:
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        dims = (
            {int(d) % len(before) for d in (given if isinstance(given, (tuple, list)) else [given])} if given else {0}
        )
        spatial = set(range(1, len(before))) - {axis}
        if axis is None or dims != spatial:
            raise NoForecast("the theory has no rule for a mean over anything but all positions")
        return Pool("average", math.prod(before[d] for d in dims))

    def _settings(self, node: fx.Node) -> dict[str, Any]:
        if node.op == "call_module":
            return dict(vars(self.model.get_submodule(str(node.target))))
        names = ("input", "kernel_size", "stride", "padding")
        if self.operations[node].name == "interpolate":
            names = ("input", "size", "scale_factor", "mode")
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        if self.operations[node].name.startswith("max_pool") and len(node.args) > 4:
            given["dilation"] = node.args[4]
        return given


def _moments(tensor: Tensor) -> tuple[float, float]:
    exact = tensor.detach().double()
    return float(exact.square().mean()), float(exact.mean())
