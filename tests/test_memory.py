"""What gradtool has looked at can be freed afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct


def chain() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 2))


@pytest.mark.parametrize("verb", [gct.audit, gct.probe, gct.capture, gct.fix], ids=lambda verb: verb.__name__)
def test_a_model_and_its_weights_are_freed(verb: Callable[[nn.Module, Tensor], object]) -> None:
    x = torch.randn(4, 8)
    verb(chain(), x)  # what is loaded on first use may keep the frames that loaded it
    model = chain()
    kept = weakref.ref(model), weakref.ref(next(model.parameters()))
    verb(model, x)
    del model
    gc.collect()
    assert [one() for one in kept] == [None, None]
