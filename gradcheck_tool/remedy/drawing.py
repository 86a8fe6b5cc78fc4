"""Weights, drawn: a layout and a shape go in, a tensor of the wished second moment comes out. The global random state
is neither read nor changed.

Orthogonal weights keep the length of every vector, and so all singular values of a deep product alike (Saxe et al.
2014, Exact solutions to the nonlinear dynamics of learning in deep linear neural networks)."""

from __future__ import annotations

import math
import zlib
from typing import Literal

import torch
from torch import Tensor

from gradcheck_tool.remedy.layers import Layout

Scheme = Literal["orthogonal", "normal"]
SCHEMES: tuple[Scheme, ...] = ("orthogonal", "normal")

LARGEST_ORTHOGONAL = 2048
"""The smaller side of a matrix from which a normal one is drawn instead: QR takes cubic time (2048: about 1 s on one
core), and the wider a layer, the nearer a normal matrix comes to what the theory says of it."""


def draw(weight: Tensor, layout: Layout, gain: float, scheme: Scheme, name: str, seed: int = 0) -> Tensor:
    """New values for `weight`, of second moment gain² / (products that an output element sums), exactly so where they
    are orthogonal.

    Args:
        weight: of which the shape alone is taken.
        layout: how it lies in its tensor.
        gain: σ_w, as of `torch.nn.init.calculate_gain`.
        scheme: how the values are drawn.
        name: of the layer: it and `seed` alone decide the values, whatever other layers are drawn.
        seed: any number.

    Returns:
        A float32 (float64 where the weight is) tensor on the CPU.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    groups, outputs, fan_in = layout.matrices(weight.detach()).shape
    matrices = torch.randn(groups, outputs, fan_in, generator=generator, dtype=dtype)
    if scheme == "orthogonal" and min(outputs, fan_in) <= LARGEST_ORTHOGONAL:
        matrices = torch.stack([_orthogonal(matrix) for matrix in matrices])
        matrices *= math.sqrt(max(outputs, fan_in))  # a second moment of 1
    matrices *= gain / math.sqrt(fan_in * layout.taps)
    return layout.tensor(matrices, weight.shape)


def _orthogonal(matrix: Tensor) -> Tensor:
    """The rows (or where they are more, the columns) made orthonormal; uniform over all such matrices (Mezzadri
    2007)."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    q, r = torch.linalg.qr(tall)
    signed: Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)
    return signed if tall is matrix else signed.mT
