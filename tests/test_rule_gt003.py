"""GT003: a stored tensor in the place of epsilon is found, a small number there is not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import Net, findings
from torch import Tensor, nn

import gradcheck_tool as gct

X = torch.randn(4, 8)


def normalizing(spread: Callable[[Net, Tensor, Tensor], Tensor], **parts: Any) -> Net:
    """A net that divides by `spread(net, var, x)`."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.fc(x)
        mean, var = h.mean(0), h.var(0, unbiased=False)
        return net.out(torch.relu((h - mean) / spread(net, var, h)))

    return Net(forward, fc=nn.Linear(8, 8), out=nn.Linear(8, 2), **parts)


def updated(net: Net, var: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        net.running_var.mul_(0.9).add_(0.1 * var)
    return torch.sqrt(var + net.running_var)


def replaced(net: Net, var: Tensor, x: Tensor) -> Tensor:
    net.running_var = 0.9 * net.running_var + 0.1 * var
    return torch.sqrt(var + net.running_var)


def replaced_without_grad(net: Net, var: Tensor, x: Tensor) -> Tensor:
    net.running_var = (0.9 * net.running_var + 0.1 * var).detach()
    return torch.sqrt(var + net.running_var)


PER_CHANNEL = [
    pytest.param(lambda net, var, x: torch.sqrt(var + net.running_var), id="below the root"),
    pytest.param(lambda net, var, x: torch.sqrt(net.running_var + var), id="on the left"),
    pytest.param(lambda net, var, x: var.add(net.running_var).sqrt(), id="by methods"),
    pytest.param(lambda net, var, x: var.sqrt() + net.running_var, id="beside the root"),
    pytest.param(lambda net, var, x: (var + net.running_var.view(1, 8)) ** 0.5, id="reshaped"),
    pytest.param(lambda net, var, x: torch.sqrt(var + net.running_var[None]), id="with a dimension more"),
    pytest.param(lambda net, var, x: torch.sqrt(var + net.running_var + 1e-5), id="beside an epsilon"),
    pytest.param(lambda net, var, x: 1 / torch.rsqrt(var + net.running_var), id="one over rsqrt"),
    pytest.param(updated, id="updated in place first"),
]
REPLACED = [
    pytest.param(replaced, id="replaced first"),
    pytest.param(replaced_without_grad, id="replaced without gradient first"),
]


@pytest.mark.parametrize("spread", PER_CHANNEL)
def test_a_parameter_for_epsilon_is_found(spread: Callable[..., Tensor]) -> None:
    (finding,) = findings(normalizing(spread, running_var=nn.Parameter(torch.ones(8))), select="GT003")
    assert finding.message.startswith("running_var is added to the variance where epsilon belongs")


@pytest.mark.parametrize("spread", PER_CHANNEL + REPLACED)
def test_a_buffer_for_epsilon_is_found(spread: Callable[..., Tensor]) -> None:
    (finding,) = findings(normalizing(spread, running_var=torch.ones(8)), select="GT003")
    assert finding.message.startswith("running_var is added to the variance where epsilon belongs")
    assert finding.severity == "error"
    assert finding.location is not None


FINE = [
    pytest.param(lambda net, var, x: torch.sqrt(var + 1e-5), {}, id="a number"),
    pytest.param(lambda net, var, x: var.add(1e-5).sqrt(), {}, id="a number by add"),
    pytest.param(lambda net, var, x: torch.sqrt(var + net.eps), {"eps": 1e-5}, id="an attribute"),
    pytest.param(
        lambda net, var, x: torch.sqrt(var + net.eps), {"eps": torch.tensor(1e-5)}, id="a buffer without dimensions"
    ),
    pytest.param(
        lambda net, var, x: torch.sqrt(var + net.eps),
        {"eps": nn.Parameter(torch.full((1,), 1e-5))},
        id="a parameter of one value",
    ),
    pytest.param(lambda net, var, x: torch.sqrt(var.clamp(min=1e-5)), {}, id="a lower bound"),
    pytest.param(
        lambda net, var, x: torch.sqrt(0.9 * net.running_var + 0.1 * var + 1e-5),
        {"running_var": torch.ones(8)},
        id="a weighted mean with the running variance",
    ),
    pytest.param(
        lambda net, var, x: torch.sqrt(var + 1e-5) / net.scale,
        {"scale": nn.Parameter(torch.ones(8))},
        id="a learned scale",
    ),
    pytest.param(
        lambda net, var, x: torch.sqrt((x * x).mean(0) - x.mean(0) ** 2 + 1e-5), {}, id="a variance from two moments"
    ),
]


@pytest.mark.parametrize(("spread", "parts"), FINE)
def test_an_epsilon_is_no_finding(spread: Callable[..., Tensor], parts: dict[str, Any]) -> None:
    model = normalizing(spread, **parts)
    assert findings(model, select="GT003") == ()
    assert gct.audit(model, X).chains == ()  # and it is a normalization


def test_a_stored_tensor_that_is_added_elsewhere_is_no_finding() -> None:
    model = Net(
        lambda net, x: net.out(torch.relu(net.fc(x).std(0) + net.b)),
        fc=nn.Linear(8, 8),
        b=torch.ones(8),
        out=nn.Linear(8, 2),
    )
    assert findings(model, select="GT003") == ()


def test_the_handwritten_batch_norm_of_the_examples_has_both_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parent.parent / "examples" / "handwritten_batchnorm.py"
    spec = importlib.util.spec_from_file_location("handwritten_batchnorm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "handwritten_batchnorm", module)
    spec.loader.exec_module(module)
    found = findings(module.Net(), torch.randn(8, 64))
    assert [f.rule for f in found] == ["GT002", "GT002", "GT003"]
    lines = path.read_text().splitlines()
    assert all("running" in lines[f.location.line - 1] for f in found if f.location)
