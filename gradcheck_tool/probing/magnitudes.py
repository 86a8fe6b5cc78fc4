"""Sizes of tensors: norms that do not underflow, and the norm below which a dtype holds nothing but zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_AT_ONCE = 2**24
"""Values of which a copy is made at a time: 128 MiB in float64."""


def pieces(tensor: Tensor) -> Sequence[Tensor]:
    """`tensor` as views of parts along its first dimension that are small enough to make copies of."""
    if tensor.numel() <= _AT_ONCE or len(tensor) == 1:
        return (tensor,)
    parts: Sequence[Tensor] = tensor.split(max(1, _AT_ONCE * len(tensor) // tensor.numel()))
    return parts


def norm(tensor: Tensor) -> float:
    """The L2 norm of `tensor`, accumulated in float64: no square underflows or overflows."""
    if tensor.numel() == 0:
        return 0.0
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    parts = pieces(dense)
    if len(parts) > 1:
        norms = [norm(part) for part in parts]
        return math.nan if any(map(math.isnan, norms)) else math.hypot(*norms)
    dtype = torch.complex128 if dense.is_complex() else torch.float64
    total = float(torch.linalg.vector_norm(dense, dtype=dtype))
    largest = float(dense.abs().max()) if total == 0.0 or math.isinf(total) else 0.0
    if largest and math.isfinite(largest):  # float64 values whose squares float64 cannot hold
        return largest * float(torch.linalg.vector_norm(dense.to(dtype) / largest))
    return total


def floor(tensor: Tensor) -> float:
    """The norm below which a gradient of this tensor holds nothing but zeros.

    Half precision keeps its subnormal numbers everywhere, the others not on every device.
    """
    limits = torch.finfo(tensor.dtype)
    smallest = limits.tiny * limits.eps if tensor.dtype == torch.float16 else limits.tiny
    return float(smallest) * math.sqrt(tensor.numel())
