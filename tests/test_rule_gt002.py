"""GT002: every way to overwrite a parameter in forward is found, and what leaves it to the optimizer is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import Net, findings
from torch import Tensor, nn

X = torch.randn(4, 8)


def overwriting(write: Callable[[Net, Tensor], Any], trainable: bool = True) -> Net:
    def forward(net: Net, x: Tensor) -> Tensor:
        write(net, x)
        return net.fc(x) * net.w

    return Net(
        forward,
        w=nn.Parameter(torch.ones(8), requires_grad=trainable),
        v=nn.Parameter(torch.ones(8)),
        fc=nn.Linear(8, 8),
    )


def without_grad(write: Callable[[Net, Tensor], Any]) -> Callable[[Net, Tensor], Any]:
    return torch.no_grad()(write)


def set_data(net: Net, x: Tensor) -> None:
    net.w.data = 0.9 * net.w.data + 0.1 * x.mean(0)


def set_item(net: Net, x: Tensor) -> None:
    net.w[0] = 1.0


def set_item_of_data(net: Net, x: Tensor) -> None:
    net.w.data[:] = x[0]


def rebind(net: Net, x: Tensor) -> None:
    net.w = nn.Parameter(x.mean(0).detach())


def set_attribute(net: Net, x: Tensor) -> None:
    setattr(net, "w", nn.Parameter(x.mean(0).detach()))  # noqa: B010


def add_by_operator(net: Net, x: Tensor) -> None:
    net.w += 1


WRITES = [
    pytest.param(set_data, "overwritten", id="data is set"),
    pytest.param(set_item_of_data, "overwritten", id="items of data are set"),
    pytest.param(without_grad(set_item), "overwritten", id="an item is set"),
    pytest.param(without_grad(lambda net, x: net.w.copy_(x[0])), "overwritten", id="copy_"),
    pytest.param(without_grad(lambda net, x: net.w.add_(1)), "overwritten", id="add_"),
    pytest.param(without_grad(lambda net, x: net.w.mul_(0.9).add_(x[0], alpha=0.1)), "overwritten", id="mul_ and add_"),
    pytest.param(without_grad(lambda net, x: net.w.lerp_(x[0], 0.1)), "overwritten", id="lerp_"),
    pytest.param(without_grad(add_by_operator), "bound|overwritten", id="+="),
    pytest.param(without_grad(lambda net, x: net.w[2:].fill_(0)), "overwritten", id="fill_ of a part"),
    pytest.param(without_grad(lambda net, x: net.w.view(2, 4).zero_()), "overwritten", id="zero_ of a view"),
    pytest.param(lambda net, x: net.w.detach().copy_(x[0]), "overwritten", id="copy_ into the detached"),
    pytest.param(lambda net, x: net.w.data.mul_(2), "overwritten", id="mul_ of data"),
    pytest.param(lambda net, x: nn.init.normal_(net.w), "overwritten", id="an initialization"),
    pytest.param(without_grad(lambda net, x: torch.add(net.w, 1, out=net.w)), "overwritten", id="out="),
    pytest.param(without_grad(lambda net, x: torch._foreach_mul_([net.w], 0.9)), "overwritten", id="a foreach op"),
    pytest.param(without_grad(lambda net, x: net.w.clamp_(0, 1).add_(1)), "overwritten", id="clamp_ and then add_"),
    pytest.param(rebind, "bound to a new nn.Parameter", id="a new parameter"),
    pytest.param(set_attribute, "bound to a new nn.Parameter", id="a new parameter by setattr"),
]


@pytest.mark.parametrize(("write", "how"), WRITES)
def test_a_parameter_that_forward_overwrites_is_found(write: Callable[[Net, Tensor], Any], how: str) -> None:
    (finding,) = findings(overwriting(write), select="GT002")
    assert finding.severity == "error"
    assert finding.message.startswith("the parameter w is ")
    assert any(word in finding.message for word in how.split("|"))
    assert finding.location is not None
    assert Path(finding.location.file).name == Path(__file__).name


@pytest.mark.parametrize(("write", "how"), WRITES)
def test_a_parameter_that_is_not_trained_may_be_overwritten(write: Callable[[Net, Tensor], Any], how: str) -> None:
    assert findings(overwriting(write, trainable=False), select="GT002") == ()


def momentum(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        for slow, fast in zip(net.slow.parameters(), net.fast.parameters(), strict=True):
            slow.data = slow.data * 0.99 + fast.data * 0.01
        key = net.slow(x)
    return net.fast(x) * key


def test_a_momentum_encoder_is_no_finding() -> None:
    model = Net(momentum, slow=nn.Linear(8, 8).requires_grad_(False), fast=nn.Linear(8, 8))
    assert findings(model, select="GT002") == ()


def test_a_momentum_encoder_that_would_be_trained_is_one_finding() -> None:
    model = Net(momentum, slow=nn.Linear(8, 8), fast=nn.Linear(8, 8))
    (finding,) = findings(model, select="GT002")
    assert "slow.weight and slow.bias are overwritten" in finding.message


LEFT_ALONE = [
    pytest.param(lambda net, x: net.w * 2, id="reading"),
    pytest.param(lambda net, x: net.w.clone().mul_(2), id="a copy is written to"),
    pytest.param(lambda net, x: (net.w + 0).zero_(), id="a result is written to"),
    pytest.param(lambda net, x: net.w.requires_grad_(True), id="requires_grad_"),
    pytest.param(without_grad(lambda net, x: net.w.clamp_(0, 1)), id="clamp_ to a range"),
    pytest.param(lambda net, x: setattr(net.w, "data", net.w.data.clamp(0, 1)), id="data set to a range"),
    pytest.param(
        without_grad(lambda net, x: net.w.copy_(nn.functional.normalize(net.w, dim=0))), id="its own direction"
    ),
    pytest.param(
        lambda net, x: nn.functional.embedding(torch.zeros(2, dtype=torch.long), net.w[:, None], max_norm=1.0),
        id="max_norm",
    ),
]


@pytest.mark.parametrize("write", LEFT_ALONE)
def test_what_leaves_the_parameter_to_the_optimizer_is_no_finding(write: Callable[[Net, Tensor], Any]) -> None:
    assert findings(overwriting(write), select="GT002") == ()


def test_buffers_may_be_overwritten() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    assert findings(model, select="GT002") == ()


def test_two_parameters_that_one_line_writes_to_are_one_finding() -> None:
    def write(net: Net, x: Tensor) -> None:
        for parameter in (net.w, net.v):
            parameter.data.zero_()

    (finding,) = findings(overwriting(write), select="GT002")
    assert finding.message.startswith("the parameters w and v are overwritten")
