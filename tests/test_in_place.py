"""Where no gradient flows, and what is written in place: detached parts have no chain, writes are read afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from architectures import Net, chains_of, linears, stack
from torch import Tensor, nn

X = torch.randn(4, 8)
THREE = [["f.0", "f.1", "f.2"]]


def test_detach_cuts_the_run() -> None:
    model = stack(torch.relu, 4)
    model._forward = lambda net, x: net.out(
        net.f[3](net.f[2](net.f[1](net.f[0](x).relu()).relu().detach()).relu()).relu()
    )
    assert chains_of(model, X) == [["f.2", "f.3"]]


def test_a_part_without_gradient_has_no_chain() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        with torch.no_grad():
            key = net.momentum(x)
        return net.out(torch.relu(net.query(x))) + key

    model = Net(forward, momentum=stack(torch.relu, 4), query=nn.Linear(8, 8), out=nn.Linear(8, 2))
    assert chains_of(model, X) == [["query"]]


def test_a_net_that_only_gives_a_detached_target_has_no_chain() -> None:
    model = Net(lambda net, x: (net.out(x), net.teacher(x).detach()), teacher=stack(torch.relu, 4), out=nn.Linear(8, 2))
    assert chains_of(model, X) == []


def half_in_place(h: Tensor) -> Tensor:
    half = h[:, :4]
    half.relu_()
    return h


def all_in_place(h: Tensor) -> Tensor:
    h.view(-1).relu_()
    return h


def module_in_place(h: Tensor) -> Tensor:
    nn.functional.relu(h.T, inplace=True)
    return h


def into_a_buffer(h: Tensor) -> Tensor:
    out = torch.empty(4, 8)
    out[:, :5] = h[:, :5]
    out[:, 5:].copy_(h[:, 5:])
    return out.relu()


def assigned(h: Tensor) -> Tensor:
    h[:, 0] = torch.relu(h[:, 0])
    return h


def scaled_in_place(h: Tensor) -> Tensor:
    h *= 2
    h += 1
    return h.relu_()


def overwritten(h: Tensor) -> Tensor:
    out = torch.empty(4, 8)
    out.copy_(h)
    return torch.relu(out)


@pytest.mark.parametrize(
    "activate",
    [
        pytest.param(half_in_place, id="an activation of a view, in place"),
        pytest.param(all_in_place, id="an activation of a view of everything, in place"),
        pytest.param(module_in_place, id="an activation of the transposed, in place"),
        pytest.param(into_a_buffer, id="an empty tensor that is filled in parts"),
        pytest.param(assigned, id="an assignment of an activated part"),
        pytest.param(scaled_in_place, id="arithmetic in place"),
        pytest.param(overwritten, id="a copy into an empty tensor"),
    ],
)
def test_what_is_written_in_place_is_read_afterwards(activate: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(activate), X) == THREE


def test_what_is_filled_with_a_constant_ends_the_run() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.relu(net.f[0](x)) * 1
        h.zero_()
        return net.out(torch.relu(net.f[1](h)))

    assert chains_of(Net(forward, f=linears(2), out=nn.Linear(8, 2)), X) == [["f.1"]]
