"""A normalization of the graph → `theory.Norm`: over what its statistics are taken, and its scale and shift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from gradcheck_tool.forecast.layers import LayerReader, NoForecast
from gradcheck_tool.ops import Operation
from gradcheck_tool.parametrized import still
from gradcheck_tool.theory import Norm

NORM_KINDS = ("batch", "layer", "group", "instance", "rms")
_GROUPS = 32  # Wu and He 2018, Group Normalization: their default


class NormReader:
    """Reads the normalizations of one model."""

    def __init__(self, model: nn.Module, operations: Mapping[fx.Node, Operation], layers: LayerReader) -> None:
        self.model = model
        self.operations = operations
        self._layers = layers

    def norm(self, node: fx.Node, source: fx.Node, axis: int | None) -> Norm:
        """The step of `node`, which normalizes `source`, whose channels lie along `axis`.

        Raises:
            NoForecast: the theory has no rule for it.
        """
        shape = source.meta["shape"]
        if node.op == "call_module":
            return self._of_module(self.model.get_submodule(str(node.target)), shape, axis)
        name = self.operations[node].name
        args: dict[str, Any] = dict(zip(_ARGUMENTS.get(name, ()), node.args, strict=False)) | dict(node.kwargs)
        scale, shift = (self._tensor(args.get(key)) for key in ("weight", "bias"))
        epsilon = args.get("eps")
        epsilon = 1e-5 if epsilon is None else float(epsilon)
        if name == "batch_norm" and args.get("training", False):
            return _norm("batch", shape, 1, scale, shift, epsilon)
        if name in ("layer_norm", "rms_norm"):
            kind = "layer" if name == "layer_norm" else "rms"
            return _over_last(kind, shape, len(args["normalized_shape"]), axis, scale, shift, epsilon)
        if name == "group_norm":
            return _norm("group", shape, 1, scale, shift, epsilon, groups=int(args["num_groups"]))
        if name == "instance_norm":
            return _norm("instance", shape, 1, scale, shift, epsilon)
        raise NoForecast(f"the theory has no rule for {name}")

    def _of_module(self, module: nn.Module, shape: tuple[int, ...], axis: int | None) -> Norm:
        scale, shift = still(module), still(module, "bias")
        epsilon: Any = getattr(module, "eps", None)
        if isinstance(module, _InstanceNorm):
            return _norm("instance", shape, 1, scale, shift, module.eps)
        if isinstance(module, _BatchNorm):
            return _norm("batch", shape, 1, scale, shift, module.eps)
        if isinstance(module, nn.GroupNorm):
            return _norm("group", shape, 1, scale, shift, module.eps, groups=module.num_groups)
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            kind = "layer" if isinstance(module, nn.LayerNorm) else "rms"
            epsilon = torch.finfo(torch.float32).eps if epsilon is None else epsilon
            return _over_last(kind, shape, len(module.normalized_shape), axis, scale, shift, epsilon)
        raise NoForecast(f"the theory has no rule for {type(module).__name__}")

    def _tensor(self, value: Any) -> Tensor | None:
        if isinstance(value, fx.Node):
            if value.op != "get_attr":
                raise NoForecast("the weight of a normalization is computed in forward")
            return self._layers.tensor(value)
        return None


_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "instance_norm": (
        *("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    ),
}


def fresh_norm(kind: str, shape: tuple[int, ...], axis: int, batch_size: int | None = None) -> Norm:
    """A norm of one of `NORM_KINDS`, newly made, for values of `shape` with channels along `axis`.

    Raises:
        NoForecast: batch norm over a sequence would take the wrong axis for channels, or too few values come together.
        ValueError: there is no such kind.
    """
    if kind not in NORM_KINDS:
        raise ValueError(f"no kind of norm: {kind!r} (there are {', '.join(NORM_KINDS)})")
    if kind in ("batch", "instance", "group") and axis != 1:
        raise NoForecast(f"{kind} norm would take the wrong axis of a sequence for channels")
    if kind == "batch" and batch_size is not None:
        shape = (batch_size, *shape[1:])
    return _norm(kind, shape, axis, None, None, 1e-5, groups=math.gcd(_GROUPS, shape[axis]))


def _norm(
    kind: str, shape: tuple[int, ...], axis: int, scale: Any, shift: Any, epsilon: float, *, groups: int = 1
) -> Norm:
    channels = shape[axis]
    positions = math.prod(shape[1:]) // channels
    rest = _affine(scale, shift) | {"epsilon": epsilon}
    if kind == "batch":
        return Norm("batch", 1, shape[0] * positions, **rest)
    if kind == "instance":
        return Norm("group", 1, positions, **rest)
    if kind == "group":
        return Norm("group", channels // groups, positions * channels // groups, **rest)
    # layer and RMS norm behind a layer: over all but the batch for maps, over the features for sequences
    positions = positions if axis == 1 else 1
    over: Any = "channels" if positions == 1 else "group"
    return Norm(over, channels, channels * positions, centered=kind == "layer", **rest)


def _over_last(
    kind: str, shape: tuple[int, ...], dims: int, axis: int | None, scale: Any, shift: Any, epsilon: float
) -> Norm:
    """Layer or RMS norm over the last `dims` dimensions."""
    values = math.prod(shape[-dims:])
    axis = len(shape) - 1 if axis is None else axis
    if axis < len(shape) - dims:
        raise NoForecast("a normalization over positions, channel by channel")
    over: Any = "channels" if dims == 1 else "group"
    centered = kind == "layer"
    return Norm(over, shape[axis], values, epsilon=epsilon, centered=centered, **_affine(scale, shift))


def _affine(scale: Any, shift: Any) -> dict[str, Any]:
    result = {}
    if isinstance(scale, Tensor):
        result["scale"] = float(scale.detach().double().square().mean())
    if isinstance(shift, Tensor):
        exact = shift.detach().double()
        result |= {"shift": float(exact.square().mean()), "shift_mean": float(exact.mean())}
    return result
