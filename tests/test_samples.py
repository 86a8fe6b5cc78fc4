"""Inputs that only show a shape: what is measured on them must hold for a real batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.inputs.samples import is_noise


def mlp(depth: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 4))


ALIKE = {"zeros": torch.zeros(8, 16), "ones": torch.ones(8, 16), "one row repeated": torch.randn(1, 16).expand(8, 16)}


@pytest.mark.parametrize("example", ALIKE.values(), ids=ALIKE)
def test_samples_that_are_all_alike_are_drawn_anew_and_the_report_says_so(example: torch.Tensor) -> None:
    result = gct.fix(mlp(), example)
    assert result.improved is True
    assert "all alike" in str(result)
    assert result.inputs[0].shape == (8, 16)


def test_samples_that_differ_are_taken_as_they_are() -> None:
    x = torch.zeros(8, 16)
    x[0, 0] = 1.0
    assert "all alike" not in str(gct.fix(mlp(), x))


def test_a_batch_of_one_gets_a_second_sample() -> None:
    result = gct.fix(mlp(), torch.randn(1, 16))
    assert result.before is not None
    assert (result.inputs[0].shape[0], result.before.batch_size) == (2, 2)
    assert "samples were added" in str(result)


def test_inputs_that_come_with_targets_are_left_alone() -> None:
    profile = gct.probe(mlp(), torch.zeros(8, 16), loss_fn=nn.CrossEntropyLoss(), targets=torch.zeros(8).long())
    assert profile.loss == "user"
    assert profile.layers[0].grad_norm == 0.0  # the gradient of the first weight is that of the output times the input


def test_token_ids_that_are_all_alike_are_drawn_below_the_number_of_embeddings() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.body = nn.Embedding(10, 16), mlp()

        def forward(self, ids: torch.Tensor) -> Any:
            return self.body(self.embed(ids).mean(1))

    assert gct.fix(Bag(), torch.zeros(6, 5, dtype=torch.long)).improved is True


def smooth(*shape: int) -> Tensor:
    """Noise whose neighbours are alike."""
    return torch.randn(shape).cumsum(-1)


@pytest.mark.parametrize(
    ("tensor", "noise"),
    [
        pytest.param(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)), True, id="normal images"),
        pytest.param(torch.rand(4, 16, 256, generator=torch.Generator().manual_seed(0)), True, id="uniform signals"),
        pytest.param(smooth(8, 3, 16, 16), False, id="smooth along rows"),
        pytest.param(smooth(8, 3, 16, 16).transpose(2, 3), False, id="smooth along columns"),
        pytest.param(torch.randn(64, 64), False, id="features: neighbours say nothing"),
        pytest.param(torch.randint(0, 9, (8, 32)), False, id="tokens"),
        pytest.param(torch.zeros(8, 3, 4, 4), False, id="zeros"),
        pytest.param(torch.randn(8, 3, 1, 1), False, id="no neighbours"),
    ],
)
def test_white_noise_is_told_from_what_has_a_structure(tensor: Tensor, noise: bool) -> None:
    assert is_noise(Inputs((tensor,))) == noise
