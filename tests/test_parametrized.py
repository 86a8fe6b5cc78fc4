"""Weights that are computed are read without a trace: reading spectral norm's while training steps its iteration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_state import unchanged
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import gradcheck_tool as gct
from gradcheck_tool.parametrized import is_computed, still


class Jitter(nn.Module):
    """A parametrization that draws random numbers, in evaluation too."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + 0.01 * torch.randn_like(weight)


def spectral(width: int) -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(width, width))


def jittered(width: int) -> nn.Module:
    layer = nn.Linear(width, width)
    parametrize.register_parametrization(layer, "weight", Jitter())
    return layer


@pytest.mark.parametrize("layer", [spectral, jittered])
def test_reading_a_computed_weight_changes_nothing(layer: Callable[[int], nn.Module]) -> None:
    module = layer(6)
    with unchanged(module):
        weight = still(module)
    assert weight.shape == (6, 6)
    assert not weight.requires_grad
    assert module.training
    assert is_computed(module)


def test_a_plain_weight_is_the_parameter_itself() -> None:
    module = nn.Linear(3, 4, bias=False)
    assert still(module) is module.weight
    assert still(module, "bias") is None
    assert still(nn.ReLU()) is None
    assert not is_computed(module)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_weight_computed_by_a_hook_is_computed() -> None:
    assert is_computed(nn.utils.spectral_norm(nn.Linear(3, 4)))
    assert is_computed(nn.utils.weight_norm(nn.Linear(3, 4)))


@pytest.mark.parametrize("layer", [spectral, jittered])
@pytest.mark.parametrize(
    "work",
    [
        pytest.param(gct.probe, id="probe"),
        pytest.param(lambda model, x: gct.audit(model, x, probe=True, min_depth=1), id="audit"),
        pytest.param(lambda model, x: gct.fix(model, x, min_depth=1), id="fix"),
        pytest.param(lambda model, x: gct.fix(model, x, auto=True), id="auto"),
    ],
)
def test_a_computed_weight_on_the_way_of_a_gradient_that_is_zero_is_left_alone(
    layer: Callable[[int], nn.Module], work: Callable[[nn.Module, torch.Tensor], object]
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), layer(6), nn.ReLU(), nn.Linear(6, 3))
    nn.init.zeros_(model[-1].weight)  # what is zero is looked for above the layers without a gradient
    x = torch.randn(8, 6)
    with unchanged(model, x):
        work(model, x)
