"""A plain pass forward: the model's own inputs untouched, its draws from one seed, its errors the user's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gradcheck_tool.capturing import forward_error
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.probing.draws import seed_all
from gradcheck_tool.structures import map_tensors


def run(model: nn.Module, inputs: Inputs, seed: int) -> Any:
    """What `model` returns, with gradients, of copies of `inputs`; use inside `preserved`.

    Raises:
        GradtoolError: the model raises.
    """
    args, kwargs = arguments(inputs)
    seed_all(seed)
    try:
        with torch.enable_grad():
            return model(*args, **kwargs)
    except Exception as error:  # the border to the user's code
        raise forward_error(error, model, inputs) from error


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The positional and the named arguments of one pass: copies, so that a model may write into them."""
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().clone())
    return args, kwargs
