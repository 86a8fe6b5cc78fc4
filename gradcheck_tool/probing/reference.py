"""How hard a batch is to learn: what a linear model makes of the same samples and the same loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.inputs import Inputs
from gradcheck_tool.structures import tensors_in

_FEATURES = 1024
"""Larger samples are projected to so many features at random, which keeps their distances to a tenth (Johnson and
Lindenstrauss 1984)."""


def reference_for(inputs: Inputs, output: Any, targets: Any, seed: int) -> tuple[nn.Module, Inputs] | None:
    """A linear model and inputs for it: those of `inputs`, flattened and standardized over the samples. It gives
    outputs like `output`. Unlike a net it learns little by heart where there are fewer features than samples.

    None but for plain classification: one tensor of floating-point inputs, a class for each sample, and a number for
    each class. Of other tasks too little is known of what a sound net does at once.
    """
    given, wanted = inputs.tensors, list(tensors_in(targets))
    if not (isinstance(output, Tensor) and output.ndim == 2 and len(given) == len(wanted) == 1):
        return None
    (x,), (y,) = given, wanted
    if not x.is_floating_point() or y.is_floating_point() or y.shape != output.shape[:1] or len(x) != len(y):
        return None
    generator = torch.Generator().manual_seed(seed)
    features = _standardized(x.detach().flatten(1).float())
    if features.shape[1] > _FEATURES:
        projection = torch.randn(features.shape[1], _FEATURES, generator=generator)
        features = _standardized(features @ projection.to(features.device))
    model: nn.Linear = nn.utils.skip_init(nn.Linear, features.shape[1], output.shape[1])  # which draws nothing
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    return model.to(features.device), Inputs((features,))


def _standardized(features: Tensor) -> Tensor:
    """Of mean 0 and variance 1 over the samples; what is the same for all stays 0."""
    centred = features - features.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(torch.finfo(features.dtype).tiny)
