"""Weight layers: what a call is named, and which functions of a parameter are one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Net, chains_of, stack, structure_of
from torch import Tensor, nn

X = torch.randn(4, 8)
THREE = [["f.0", "f.1", "f.2"]]


def test_the_calls_of_a_shared_layer_are_numbered() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    out = nn.Linear(8, 2)
    assert chains_of(Net(lambda net, x: net.out(net.m(net.m(net.m(x)))), m=model, out=out), X) == [
        ["m.0", "m.0@2", "m.0@3"]
    ]


FUNCTIONAL = [
    pytest.param(lambda net, x: x @ net.w + net.b, "w", id="x @ W + b"),
    pytest.param(lambda net, x: (net.w @ x.T).T, "w", id="W @ x"),
    pytest.param(lambda net, x: x @ net.w.T, "w", id="x @ W.T"),
    pytest.param(lambda net, x: F.linear(x, net.w, net.b), "w", id="F.linear"),
    pytest.param(lambda net, x: F.linear(input=x, weight=net.w), "w", id="F.linear by keywords"),
    pytest.param(lambda net, x: F.linear(x, net.fc.weight), "fc", id="F.linear of a module's weight"),
    pytest.param(lambda net, x: torch.addmm(net.b, x, net.w), "w", id="addmm"),
    pytest.param(lambda net, x: torch.matmul(x, other=net.w), "w", id="matmul by keyword"),
    pytest.param(lambda net, x: torch.einsum("bi,ij->bj", x, net.w), "w", id="einsum"),
    pytest.param(lambda net, x: torch.tensordot(x, net.w, dims=1), "w", id="tensordot"),
    pytest.param(
        lambda net, x: x @ (net.w * 2 + 1).detach().requires_grad_(), "w", id="a weight that is computed first"
    ),
    pytest.param(lambda net, x: F.conv1d(x[:, None], net.k, padding=1).squeeze(1), "k", id="F.conv1d"),
    pytest.param(
        lambda net, x: F.conv2d(x[:, None, None], net.k[..., None], padding="same")[:, 0, 0], "k", id="F.conv2d"
    ),
    pytest.param(lambda net, x: F.bilinear(x, x, net.t), "t", id="F.bilinear"),
]


@pytest.mark.parametrize(("layer", "name"), FUNCTIONAL)
def test_a_functional_layer_is_called_by_its_parameter(layer: Callable[[Net, Tensor], Tensor], name: str) -> None:
    shapes = {"w": (8, 8), "b": (8,), "k": (1, 1, 3), "t": (8, 8, 8)}
    parameters = {key: nn.Parameter(torch.randn(*shape)) for key, shape in shapes.items()}
    model = Net(
        lambda net, x: net.out(layer(net, layer(net, x).relu()).relu()),
        fc=nn.Linear(8, 8),
        out=nn.Linear(8, 2),
        **parameters,
    )
    assert chains_of(model, X) == [[name, f"{name}@2"]]


def test_a_subclass_with_a_forward_of_its_own_is_called_as_the_module_is() -> None:
    class Standardized(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight - self.weight.mean(), self.bias)

    assert chains_of(nn.Sequential(Standardized(8, 8), nn.ReLU(), nn.Linear(8, 2)), X) == [["0"]]


def test_a_fixed_filter_is_no_weight_layer() -> None:
    model = stack(lambda h: F.conv1d(h[:, None], torch.ones(1, 1, 3), padding=1)[:, 0])
    assert [call.name for call in structure_of(model, X).calls] == ["f.0", "f.1", "f.2", "out"]


def test_a_product_of_two_parameters_is_no_weight_layer() -> None:
    parts = {"a": nn.Parameter(torch.randn(8, 2)), "b": nn.Parameter(torch.randn(2, 8))}
    model = Net(lambda net, x: net.out(torch.relu(F.linear(x, net.a @ net.b))), out=nn.Linear(8, 2), **parts)
    assert [call.name for call in structure_of(model, X).calls] == ["a", "out"]
