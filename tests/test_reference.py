"""What a linear model makes of a batch, and what is demanded of others after that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct
from gradcheck_tool.chances import BEGUN, ENOUGH
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.probing.reference import reference_for

X, Y, LOGITS = torch.randn(8, 3, 4), torch.arange(8) % 2, torch.zeros(8, 2)


def test_it_takes_the_inputs_as_rows_and_gives_outputs_like_the_models() -> None:
    found = reference_for(Inputs((1e6 * X + 1e3,)), LOGITS, Y, 0)
    assert found is not None
    net, inputs = found
    (features,) = inputs.args
    assert features.shape == (8, 12)
    assert torch.allclose(features.mean(0), torch.zeros(12), atol=1e-5)
    assert torch.allclose(features.square().mean(0), torch.ones(12), atol=1e-4)
    assert net(features).shape == LOGITS.shape


def test_it_is_the_same_at_every_call_and_draws_nothing() -> None:
    state = torch.get_rng_state()
    one, other = (reference_for(Inputs((X,)), LOGITS, Y, 0) for _ in range(2))
    assert one is not None
    assert other is not None
    assert torch.equal(one[0](one[1].args[0]), other[0](other[1].args[0]))
    assert torch.equal(torch.get_rng_state(), state)


def test_features_that_never_change_are_left_out_and_many_are_projected() -> None:
    large = torch.cat([torch.ones(8, 3000), torch.randn(8, 3000)], 1)
    found = reference_for(Inputs((large,)), LOGITS, Y, 0)
    assert found is not None
    (features,) = found[1].args
    assert features.shape[1] < 3000
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("inputs", "output", "targets"),
    [
        pytest.param((X,), LOGITS, torch.zeros(8, 2), id="numbers as targets"),
        pytest.param((X,), torch.zeros(8, 4, 2), Y, id="a class for each place"),
        pytest.param((X,), (LOGITS, LOGITS), Y, id="two outputs"),
        pytest.param((X, X), LOGITS, Y, id="two inputs"),
        pytest.param((X.long(),), LOGITS, Y, id="whole numbers as inputs"),
        pytest.param((X,), LOGITS, "labels", id="targets without a tensor"),
        pytest.param((X[:4],), LOGITS, Y, id="rows of other samples"),
    ],
)
def test_of_other_tasks_there_is_none(inputs: tuple[Any, ...], output: Any, targets: Any) -> None:
    assert reference_for(Inputs(inputs), output, targets, 0) is None


class Slow(nn.Module):
    """A linear model whose gradients are small: it learns, and slowly."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, features), nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return 0.005 * self.last(0.1 * self.first(x))


def test_of_a_net_that_has_only_begun_an_easy_task_more_is_demanded() -> None:
    digits = load_digits()
    x = torch.tensor(digits.data[:64], dtype=torch.float32) / 16
    y = torch.tensor(digits.target[:64])
    torch.manual_seed(0)
    easy = gct.probe(Slow(64, 10), x, cross_entropy, y)
    assert easy.learning is not None
    assert BEGUN < easy.learning.explained < ENOUGH
    assert easy.verdict == "vanishing"
    assert easy.learning.linear == pytest.approx(0.9, abs=0.1)
    assert f", a linear model {easy.learning.linear:.0%}: it hardly learns its own batch" in easy.reasons[0]


def test_the_same_is_enough_where_a_linear_model_explains_no_more() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, 12, generator=generator)
    y = torch.where(torch.rand(512, generator=generator) < 0.9, torch.randint(4, (512,), generator=generator), 0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4))
    profile = gct.probe(net, x, cross_entropy, y)
    assert profile.learning is not None
    assert profile.learning.explained < ENOUGH
    assert profile.learning.linear is not None
    assert profile.learning.linear < profile.learning.explained
    assert profile.verdict == "healthy"
