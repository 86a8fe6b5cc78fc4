"""Inputs fit for batch statistics: at least two samples, and not all of them alike.

A batch of one, or an example of zeros that only shows the shape (as Lightning's `example_input_array` often is), gives
every batch norm a variance of zero; what a probe measured then would hold for no real batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gradcheck_tool.inputs import BATCH, Inputs, batch_size, resized
from gradcheck_tool.inputs.draw import draw
from gradcheck_tool.structures import map_tensors, tensors_in


def enough(inputs: Inputs, seed: int) -> Inputs:
    """`inputs`, or where they are one sample, more of its like: two, or as many as gradtool is free to take."""
    if batch_size(inputs) != 1:
        return inputs
    note = "a batch of one has no variance, so samples were added"
    return replace(resized(inputs, BATCH if inputs.free_batch else 2, seed), note=note)


def varied(model: nn.Module, inputs: Inputs, seed: int) -> Inputs:
    """`inputs`, or where every sample is like every other, random values of the same shapes in their place."""
    tensors = [tensor for tensor in tensors_in((inputs.args, dict(inputs.kwargs))) if tensor.ndim]
    if batch_size(inputs) in (None, 1) or not all(_alike(tensor) for tensor in tensors):
        return inputs
    generator = torch.Generator().manual_seed(seed)

    def change(tensor: Tensor) -> Tensor:
        if not tensor.ndim or tensor.dtype == torch.bool or tensor.layout != torch.strided:
            return tensor
        drawn = draw(model, tuple(tensor.shape), tensor.dtype, generator)
        return drawn.to(tensor.device).requires_grad_(tensor.requires_grad)

    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), change)
    note = "the samples given are all alike, so random ones of the same shape were drawn"
    return replace(inputs, args=args, kwargs=kwargs, note=note)


def _alike(tensor: Tensor) -> bool:
    """Whether all rows of a tensor hold the same values; on meta, where there are none, they may differ."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized or not tensor.numel():
        return False
    return bool((tensor == tensor[:1]).all())
