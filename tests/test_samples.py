"""Inputs that only show a shape: what is measured on them must hold for a real batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import gradcheck_tool as gct


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
