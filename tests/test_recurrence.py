"""Recurrences: a run goes through the steps. A residual net with a shared layer is none."""

from __future__ import annotations

import pytest
import torch
from architectures import Net, chains_of, linears, structure_of
from torch import Tensor, nn

X = torch.randn(4, 5, 8)
T = 5


def cell(net: Net, x: Tensor) -> Tensor:
    h = torch.zeros(4, 8)
    for t in range(T):
        h = torch.tanh(net.a(x[:, t]) + net.b(h))
    return net.out(h)


def cell_without_state(net: Net, x: Tensor) -> Tensor:
    h = torch.tanh(net.a(x[:, 0]))
    for t in range(1, T):
        h = torch.tanh(net.a(x[:, t]) + net.b(h))
    return net.out(h)


def cell_of_one_input(net: Net, x: Tensor) -> Tensor:
    injected, h = net.a(x[:, 0]), torch.zeros(4, 8)
    for _ in range(T):
        h = torch.tanh(injected + net.b(h))
    return net.out(h)


def cell_of_concatenation(net: Net, x: Tensor) -> Tensor:
    h = torch.zeros(4, 8)
    for t in range(T):
        h = torch.tanh(net.ab(torch.cat([x[:, t], h], -1)))
    return net.out(h)


def cell_of_sum(net: Net, x: Tensor) -> Tensor:
    h = torch.zeros(4, 8)
    for t in range(T):
        h = torch.tanh(net.b(x[:, t] + h))
    return net.out(h)


def cell_by_parameters(net: Net, x: Tensor) -> Tensor:
    h = torch.zeros(4, 8)
    for t in range(T):
        h = torch.tanh(x[:, t] @ net.u + h @ net.w)
    return net.out(h)


def elman(net: Net, x: Tensor) -> Tensor:
    """All outputs are kept, as a sequence model would keep them."""
    h, outputs = torch.zeros(4, 8), []
    for t in range(T):
        h = torch.tanh(net.a(x[:, t]) + net.b(h))
        outputs.append(net.out(h))
    return torch.stack(outputs, 1)


def net_of(forward: object) -> Net:
    parts = {"a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "ab": nn.Linear(16, 8), "out": nn.Linear(8, 2)}
    return Net(forward, u=nn.Parameter(torch.randn(8, 8)), w=nn.Parameter(torch.randn(8, 8)), **parts)  # type: ignore[arg-type]


def calls(first: str, name: str, start: int = 2) -> list[str]:
    return [first, *(name if n == 1 else f"{name}@{n}" for n in range(start, start + T - 1))]


CELLS = [
    pytest.param(cell, calls("a", "b"), {"a", "b"}, id="a sum of layers of input and state"),
    pytest.param(cell_without_state, calls("a", "b", 1), {"a", "b"}, id="a first step without a state"),
    pytest.param(cell_of_one_input, calls("a", "b"), {"a", "b"}, id="the same input at each step"),
    pytest.param(cell_of_concatenation, calls("ab", "ab"), {"ab"}, id="a layer of input and state, concatenated"),
    pytest.param(cell_of_sum, calls("b", "b"), {"b"}, id="a layer of the sum of input and state"),
    pytest.param(cell_by_parameters, calls("u", "w"), {"u", "w"}, id="products with parameters"),
    pytest.param(elman, calls("a", "b"), {"a", "b"}, id="an output at each step"),
]


@pytest.mark.parametrize(("forward", "chain", "layers"), CELLS)
def test_a_recurrence_is_one_chain_over_its_steps(forward: object, chain: list[str], layers: set[str]) -> None:
    structure = structure_of(net_of(forward), X)
    assert [[block.name for block in chain] for chain in structure.chains] == [chain]
    assert structure.recurrent == layers


def test_stacked_cells_have_a_chain_through_the_upper_steps() -> None:
    """The upper cell's first step comes from the lower cell's; both go on for themselves."""

    def forward(net: Net, x: Tensor) -> Tensor:
        low = high = torch.zeros(4, 8)
        for t in range(3):
            low = torch.tanh(net.f[0](x[:, t]) + net.f[1](low))
            high = torch.tanh(net.f[2](low) + net.f[3](high))
        return net.out(high)

    structure = structure_of(Net(forward, f=linears(4), out=nn.Linear(8, 2)), X)
    expected = [["f.0", "f.2", "f.3@2", "f.3@3"], ["f.1@2", "f.1@3"]]
    assert [[block.name for block in chain] for chain in structure.chains] == expected
    assert structure.recurrent == {"f.0", "f.1", "f.2", "f.3"}


def test_the_gates_of_a_gru_are_a_way_round() -> None:
    """h = (1 − z) n + z h: the state goes on past every block, so that no chain is longer than a gate."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.zeros(4, 8)
        for t in range(4):
            z = torch.sigmoid(net.f[0](x[:, t]) + net.f[1](h))
            r = torch.sigmoid(net.f[2](x[:, t]) + net.f[3](h))
            n = torch.tanh(net.f[4](x[:, t]) + r * net.f[5](h))
            h = (1 - z) * n + z * h
        return net.out(h)

    assert {len(chain) for chain in chains_of(Net(forward, f=linears(6), out=nn.Linear(8, 2)), X)} == {1}


def test_the_cell_state_of_an_lstm_is_a_way_round() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = c = torch.zeros(4, 8)
        for t in range(4):
            i, f, g, o = (net.a(x[:, t]) + net.b(h)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return net.out(h)

    model = Net(forward, a=nn.Linear(8, 32), b=nn.Linear(8, 32), out=nn.Linear(8, 2))
    assert chains_of(model, X) == [["a", "b@2"], ["b@3"], ["b@4"]]


def residual(net: Net, x: Tensor) -> Tensor:
    x = torch.relu(net.a(x))
    for _ in range(T):
        x = x + torch.relu(net.b(x))
    return net.out(x)


def residual_before_activation(net: Net, x: Tensor) -> Tensor:
    x = torch.relu(net.a(x))
    for _ in range(T):
        x = x + net.b(torch.relu(x))
    return net.out(x)


def euler(net: Net, x: Tensor) -> Tensor:
    x = torch.relu(net.a(x))
    for _ in range(T):
        x = x + 0.1 * net.b2(torch.tanh(net.b(x)))
    return net.out(x)


@pytest.mark.parametrize(
    ("forward", "blocks"),
    [
        pytest.param(residual, T + 1, id="x + relu(b(x))"),
        pytest.param(residual_before_activation, 1, id="x + b(relu(x))"),
        pytest.param(euler, T + 1, id="x + 0.1 b2(tanh(b(x)))"),
    ],
)
def test_a_residual_net_with_a_shared_layer_is_no_recurrence(forward: object, blocks: int) -> None:
    parts = {name: nn.Linear(8, 8) for name in ("a", "b", "b2", "out")}
    structure = structure_of(Net(forward, **parts), X[:, 0])  # type: ignore[arg-type]
    assert structure.recurrent == frozenset()
    assert max(map(len, structure.chains)) <= 2
    assert sum(map(len, structure.chains)) == blocks


def test_two_towers_of_shared_layers_are_no_recurrence() -> None:
    def forward(net: Net, x: Tensor, y: Tensor) -> Tensor:
        left, right = (torch.relu(net.b(torch.relu(net.a(z)))) for z in (x, y))
        return net.out(left - right)

    structure = structure_of(Net(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 8), out=nn.Linear(8, 2)), X[:, 0], X[:, 1])
    assert [[block.name for block in chain] for chain in structure.chains] == [["a", "b"], ["a@2", "b@2"]]
    assert structure.recurrent == frozenset()


def test_torch_s_own_cells_are_listed_as_fused() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.zeros(4, 8)
        for t in range(3):
            h = net.cell(x[:, t], h)
        return net.out(h)

    structure = structure_of(Net(forward, cell=nn.RNNCell(8, 8), out=nn.Linear(8, 2)), X)
    assert structure.chains == ()
    assert {entry.reason for entry in structure.not_analyzed} == {
        "the steps inside RNNCell run fused and are not seen; the run ends there"
    }
