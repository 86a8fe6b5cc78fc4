"""What torch's own layers and functions give on the meta device, without the work that torch puts into it.

torch runs many of its ops on meta by decompositions in Python: a batch norm takes 1.5 ms there, a layer norm 1 ms, a
convolution, whose shape is worked out in C++, 0.05 ms. All that a recording needs is a tensor of the right shape,
strides and dtype that requires a gradient where the result would, and that is no leaf. A copy of the input is such a
tensor. Only calls of which that is certain are answered here; all others, and all that torch would refuse, run there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks

_CONTIGUOUS = torch.contiguous_format


def of_layer(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What calling `module`, with its tensors on meta, gives; None where torch has to say."""
    rule = _LAYERS.get(type(module))
    if rule is None or kwargs or len(args) != 1 or not _is_plain(args[0]):
        return None
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    if hooked or "forward" in module.__dict__ or hooks._has_any_global_hook():
        return None
    return rule(module, args[0])


def of_function(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What calling a function of torch, with tensors on meta, gives; None where torch has to say."""
    rule = _FUNCTIONS.get(func)
    return rule(*args, **kwargs) if rule is not None and args and _is_plain(args[0]) else None


def _is_plain(x: Any) -> bool:
    return type(x) is Tensor and x.is_floating_point() and x.is_meta


# -- layers -----------------------------------------------------------------------------------------------------------


def _activation(module: nn.Module, x: Tensor) -> Tensor | None:
    if getattr(module, "inplace", False):
        return x.relu_() if x.is_contiguous() else None
    return x.clone()


def _dropout(module: Any, x: Tensor) -> Tensor | None:
    if module.inplace:
        return None
    return x.clone() if module.training and module.p > 0 else x


def _linear(module: Any, x: Tensor) -> Tensor | None:
    weight, bias = module.weight, module.bias
    if bias is None or bias.shape != weight.shape[:1] or bias.dtype != x.dtype:
        return None
    product = F.linear(x, weight)
    return product if product.requires_grad or not bias.requires_grad else None


def _layer_norm(module: Any, x: Tensor) -> Tensor | None:
    return _layer_normed(x, module.normalized_shape, module.weight, module.bias)


def _group_norm(module: Any, x: Tensor) -> Tensor | None:
    if x.dim() < 2 or x.shape[1] != module.num_channels or not x.is_contiguous():
        return None
    return _scaled(x, module.weight, module.bias) if x.numel() > x.shape[0] * module.num_groups else None


def _batch_norm(rank: int) -> Callable[[Any, Tensor], Tensor | None]:
    def rule(module: Any, x: Tensor) -> Tensor | None:
        if x.dim() != rank or x.shape[1] != module.num_features:
            return None
        return _batch_normed(x, module.running_mean, module.running_var, module.weight, module.bias)

    return rule


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _scaled(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, layout: torch.memory_format = torch.preserve_format
) -> Tensor | None:
    """A normalized `x`, scaled and shifted."""
    for own in (weight, bias):
        if own is not None and (own.dtype != x.dtype or (own.requires_grad and not x.requires_grad)):
            return None
    return x.clone(memory_format=layout)


# -- functions --------------------------------------------------------------------------------------------------------


def _layer_normed(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    sizes = tuple(normalized_shape)
    if not sizes or tuple(x.shape[-len(sizes) :]) != sizes:
        return None
    if any(own is not None and tuple(own.shape) != sizes for own in (weight, bias)):
        return None
    return _scaled(x, weight, bias, _CONTIGUOUS)


def _batch_normed(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if x.dim() < 2 or x.numel() <= x.shape[1] or not _is_dense(x):  # one value per channel has no variance
        return None
    for own in (running_mean, running_var, weight, bias):
        if own is not None and (own.shape != x.shape[1:2] or own.dtype != x.dtype):
            return None
    return _scaled(x, weight, bias)


def _activated(x: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor | None:
    return x.clone() if not (inplace or any(arg is True for arg in args) or kwargs.get("out") is not None) else None


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    length, width = query.shape[-2:] if query.dim() > 2 else (0, 0)
    alike = key.shape == value.shape and key.dtype == value.dtype == query.dtype and key.shape[-1:] == (width,)
    if not (alike and query.requires_grad and query.shape[:-2] == key.shape[:-2]) or enable_gqa:
        return None
    if attn_mask is not None:
        whole = (*query.shape[:-1], key.shape[-2])
        offset = len(whole) - attn_mask.dim()
        fits = offset >= 0 and all(size in (1, whole[offset + at]) for at, size in enumerate(attn_mask.shape))
        if not fits or is_causal or attn_mask.dtype not in (torch.bool, query.dtype):
            return None
    return query.clone(memory_format=_CONTIGUOUS) if length else None


def _arithmetic(x: Tensor, other: Any, *args: Any, **kwargs: Any) -> Tensor | None:
    """`x + other` and its like, where the result is as large as `x`."""
    if args or kwargs:
        return None
    if type(other) is float or type(other) is int:
        return x.clone()
    if not isinstance(other, Tensor) or other.dtype != x.dtype or not (x.is_contiguous() and other.is_contiguous()):
        return None
    if other.requires_grad and not x.requires_grad:
        return None
    if other.shape == x.shape or (other.dim() and other.shape == x.shape[-other.dim() :]):
        return x.clone()
    return None


_LAYERS: dict[type, Callable[[Any, Tensor], Tensor | None]] = {
    **dict.fromkeys(
        (
            *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
            *(nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign),
        ),
        _activation,
    ),
    nn.Dropout: _dropout,
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.BatchNorm2d: _batch_norm(4),
    nn.BatchNorm3d: _batch_norm(5),
}

_FUNCTIONS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    **dict.fromkeys(
        (
            *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.mish, F.softplus, F.hardswish),
            *(F.hardsigmoid, F.hardtanh, F.softsign, torch.relu, Tensor.relu),
        ),
        _activated,
    ),
    **dict.fromkeys((torch.add, Tensor.add, torch.sub, Tensor.sub, torch.mul, Tensor.mul), _arithmetic),
    F.layer_norm: _layer_normed,
    F.batch_norm: _batch_normed,
    F.scaled_dot_product_attention: _attention,
}
