"""Inputs fit for batch statistics: at least two samples, and not all of them alike.

A batch of one, or an example of zeros that only shows the shape (as Lightning's `example_input_array` often is), gives
every batch norm a variance of zero; what a probe measured then would hold for no real batch.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradcheck_tool.inputs import BATCH, Inputs, batch_size, mapped, resized
from gradcheck_tool.inputs.draw import draw


def enough(inputs: Inputs, seed: int) -> Inputs:
    """`inputs`, or where they are one sample, more of its like: two, or as many as gradtool is free to take."""
    if batch_size(inputs) != 1:
        return inputs
    note = "a batch of one has no variance, so samples were added"
    return replace(resized(inputs, BATCH if inputs.free_batch else 2, seed), note=note)


def varied(model: nn.Module, inputs: Inputs, seed: int) -> Inputs:
    """`inputs`, or where every sample is like every other, random values of the same shapes in their place."""
    tensors = [tensor for tensor in inputs.tensors if tensor.ndim]
    if batch_size(inputs) in (None, 1) or not all(_alike(tensor) for tensor in tensors):
        return inputs
    generator = torch.Generator().manual_seed(seed)

    def change(tensor: Tensor) -> Tensor:
        if not tensor.ndim or tensor.dtype == torch.bool or tensor.layout != torch.strided:
            return tensor
        drawn = draw(model, tuple(tensor.shape), tensor.dtype, generator)
        return drawn.to(tensor.device).requires_grad_(tensor.requires_grad)

    note = "the samples given are all alike, so random ones of the same shape were drawn"
    return replace(mapped(inputs, change), note=note)


def is_noise(inputs: Inputs) -> bool:
    """Whether maps or sequences are given, and all are white noise, as `torch.randn(8, 3, 224, 224)` is: neighbours are
    not correlated along any position, as they are in images, sounds and texts. There is nothing to be learned from it
    but each sample by heart, which plain nets with pooling take long for, though they learn from images well."""
    given = [tensor for tensor in inputs.tensors if tensor.is_floating_point()]
    maps = [tensor for tensor in given if tensor.ndim > 2 and not tensor.is_meta and tensor.layout == torch.strided]
    return bool(maps) and all(map(_is_white, maps))


_STANDARD_ERRORS = 4.0
"""What chance is granted of a correlation of n pairs, in units of 1/√n."""


def _is_white(tensor: Tensor) -> bool:
    values = tensor.detach().float()
    values = values - values.mean()
    power = float(values.square().sum())
    if not 0.0 < power < math.inf:
        return False
    for dim in range(1, values.ndim):
        here, there = values.narrow(dim, 1, values.shape[dim] - 1), values.narrow(dim, 0, values.shape[dim] - 1)
        if here.numel() and abs(float((here * there).sum())) / power > _STANDARD_ERRORS / math.sqrt(here.numel()):
            return False
    return values.numel() > values.shape[0] * values.shape[1]


def _alike(tensor: Tensor) -> bool:
    """Whether all rows of a tensor hold the same values; on meta, where there are none, they may differ."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized or not tensor.numel():
        return False
    return bool((tensor == tensor[:1]).all())
