"""Lazy modules, which take their size from their first input, and with it another class."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy


def is_unfinished(model: nn.Module) -> bool:
    """Whether any part of `model` waits for its first input."""
    return any(hasattr(module, "_initialize_hook") for module in model.modules())


def copied(model: nn.Module) -> nn.Module:
    """A deep copy; torch itself has none of a lazy buffer."""
    buffers = (buffer for buffer in model.buffers() if is_lazy(buffer))
    new: Any = UninitializedBuffer  # whose keywords torch's annotations do not know
    return copy.deepcopy(model, {id(own): new(device=own.device, dtype=own.dtype) for own in buffers})
