"""Less dropout: what is planned, and what comes of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct
from gradcheck_tool import auditing
from gradcheck_tool.capturing import capture
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.dropout import LEFT, DropoutChange, LessDropout

WIDTH = 24


def net(*probabilities: float) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for p in probabilities:
        layers += [nn.Linear(WIDTH, WIDTH), nn.SELU(), nn.Dropout(p)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 4))


def case_of(model: nn.Module) -> Case:
    inputs = Inputs((torch.randn(8, WIDTH),))
    return Case(model, inputs, auditing.read(model, inputs).structure)


@pytest.mark.parametrize("probabilities", [(0.5,), (0.2, 0.2), (0.5,) * 12, (0.1,) * 8], ids=str)
def test_so_much_is_left_that_inputs_are_seen(probabilities: tuple[float, ...]) -> None:
    model = net(*probabilities)
    case = case_of(model)
    plan = LessDropout().plan(case)
    fixed = LessDropout().apply(capture(model, case.inputs)[0], plan, case)
    left = [module.p for module in fixed.modules() if isinstance(module, nn.Dropout)]
    assert len(left) == len(probabilities)
    assert math.prod(1 - p for p in left) == pytest.approx(LEFT, rel=5e-3)
    assert [module.p for module in model if isinstance(module, nn.Dropout)] == list(probabilities)
    assert fixed.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("probabilities", [(), (0.0, 0.0), (0.1, 0.1), (0.3,), (1.0,)], ids=str)
def test_little_dropout_stays(probabilities: tuple[float, ...]) -> None:
    assert LessDropout().plan(case_of(net(*probabilities))).steps == ()


def test_a_dropout_below_its_share_stays() -> None:
    plan = LessDropout().plan(case_of(net(0.6, 0.01, 0.6)))
    assert [step.module for step in plan.steps if isinstance(step, DropoutChange)] == ["2", "8"]
    assert str(plan.steps[0]) == "2: dropout of 0.035 for 0.6"


def test_a_module_that_is_called_twice_counts_twice() -> None:
    drop = nn.Dropout(0.3)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), drop, nn.Linear(WIDTH, WIDTH), nn.ReLU(), drop)
    (step,) = LessDropout().plan(case_of(model)).steps
    assert isinstance(step, DropoutChange)
    assert (1 - step.new) ** 2 == pytest.approx(LEFT, rel=5e-3)


def test_auto_takes_it_where_nothing_else_helps() -> None:
    x = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(3))
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    result = gct.fix(net(*[0.6] * 12), x, loss_fn=cross_entropy, targets=y, auto=True)
    assert result.before is not None
    assert result.after is not None
    assert (result.before.verdict, result.after.verdict) == ("vanishing", "healthy")
    assert result.remedy is not None
    assert "less-dropout" in result.remedy
