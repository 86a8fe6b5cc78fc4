"""Recurrences: a run goes through the steps. A residual net with a shared layer is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from architectures import Net, chains_of, linears, structure_of
from test_capturing import assert_same_run
from torch import Tensor, nn

import gradcheck_tool as gct

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


# -- what audit and fix say of a recurrence ----------------------------------------------------------------------------

STEPPED = "it is stepped, and its norm would have to stand behind the sum of that step's layers, where none is put"


class Cell(nn.Module):
    """A cell as a module of its own, as it is written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.from_input, self.from_state = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.from_input(x) + self.from_state(h))


class Elman(nn.Module):
    """`layers` cells, one above the other; the start is zeros at the batch's size, and the way is forward or back."""

    def __init__(self, layers: int = 1, backward: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells, self.out, self.backward_in_time = (
            nn.ModuleList(Cell() for _ in range(layers)),
            nn.Linear(8, 2),
            backward,
        )

    def forward(self, x: Tensor) -> Tensor:
        states = [x.new_zeros(x.size(0), 8) for _ in self.cells]
        steps = range(x.size(1))
        for t in reversed(steps) if self.backward_in_time else steps:
            below = x[:, t]
            for index, layer in enumerate(self.cells):
                below = states[index] = layer(below, states[index])
        return self.out(states[-1])


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward in time"])
def test_a_recurrence_is_found_over_its_steps_and_gets_no_batch_norm(backward: bool) -> None:
    x, model = torch.randn(4, 6, 8), Elman(backward=backward)
    report = gct.audit(model, x)
    chain = ["cells.0.from_input", *(f"cells.0.from_state@{n}" for n in range(2, 7))]
    assert [list(one.layers) for one in report.chains] == [chain]
    (finding,) = report.findings
    assert finding.message == "6 blocks of Linear → tanh in a row without normalization, over 6 steps"
    result = gct.fix(model, x)
    assert (result.plan, result.improved) == ((), None)
    assert [(skip.layer, skip.reason) for skip in result.skipped] == [(name, STEPPED) for name in chain]
    assert STEPPED in str(result)


def test_a_deep_net_behind_a_recurrence_gets_its_norms_all_the_same() -> None:
    """The run goes on from the last step into the net behind; only what is stepped is refused."""

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.body = (
                Elman(),
                nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(8, 8), nn.ReLU()))),
            )
            self.rnn.out, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.body(self.rnn(x)))
            return y

    result = gct.fix(Classifier(), torch.randn(8, 3, 8))
    assert [step.after for step in result.plan] == ["body.0", "body.2", "body.4", "body.6"]
    steps = ["rnn.cells.0.from_input", "rnn.cells.0.from_state@2", "rnn.cells.0.from_state@3"]
    assert [skip.layer for skip in result.skipped] == steps


FUSED: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: nn.RNN(8, 8, 2, batch_first=True, dropout=0.0),
    "RNN of ReLU": lambda: nn.RNN(8, 8, nonlinearity="relu", batch_first=True),
    "LSTM, both ways": lambda: nn.LSTM(8, 4, bidirectional=True, batch_first=True),
    "LSTM with a projection": lambda: nn.LSTM(8, 16, proj_size=8, batch_first=True),
    "GRU": lambda: nn.GRU(8, 8, 2, batch_first=True),
}


class Behind(nn.Module):
    """A net of four blocks behind one of torch's recurrent layers, with a start at the batch's size."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = layer(), nn.Linear(8, 2)
        self.body = nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(8, 8), nn.ReLU())))

    def forward(self, x: Tensor) -> Any:
        return self.out(self.body(self.rnn(x)[0][:, -1]))


@pytest.mark.parametrize("layer", FUSED.values(), ids=FUSED)
def test_a_recurrent_layer_of_torch_ends_the_run_and_the_net_behind_it_is_fixed(layer: Callable[[], nn.Module]) -> None:
    model, x = Behind(layer), torch.randn(8, 5, 8)
    report = gct.audit(model, x)
    body = ["body.0", "body.2", "body.4", "body.6"]
    assert [list(chain.layers) for chain in report.chains] == [body]
    kind = type(model.rnn).__name__
    reasons = {entry.reason for entry in report.not_analyzed}
    assert reasons == {f"the steps inside {kind} run fused and are not seen; the run ends there"}
    assert [step.after for step in gct.fix(model, x).plan] == body


REPLAYED: dict[str, Callable[[], nn.Module]] = {
    "a cell by hand": Elman,
    "two cells by hand, backward in time": lambda: Elman(2, backward=True),
    **{name: lambda layer=layer: Behind(layer) for name, layer in FUSED.items()},  # type: ignore[misc]
}


@pytest.mark.parametrize("build", REPLAYED.values(), ids=REPLAYED)
def test_a_recurrent_net_is_replayed_at_any_batch_size(build: Callable[[], nn.Module]) -> None:
    for training in (True, False):
        model, graph = build(), gct.capture(build(), torch.randn(3, 5, 8))
        for batch in (3, 1, 7):
            assert_same_run(graph, model, torch.randn(batch, 5, 8), training)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell], ids=lambda kind: kind.__name__)
def test_a_cell_of_torch_that_is_stepped_is_replayed_and_has_no_chain_of_its_own(kind: type[nn.Module]) -> None:
    class Stepped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell, self.out = kind(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            h: Any = torch.zeros(x.size(0), 8)
            h = (h, torch.zeros_like(h)) if kind is nn.LSTMCell else h
            for t in range(x.size(1)):
                h = self.cell(x[:, t], h)
            return self.out(h[0] if kind is nn.LSTMCell else h)

    report = gct.audit(Stepped(), torch.randn(4, 5, 8))
    assert report.chains == ()
    assert len(report.not_analyzed) == 5
    for training in (True, False):
        model, graph = Stepped(), gct.capture(Stepped(), torch.randn(3, 5, 8))
        for batch in (3, 1, 7):
            assert_same_run(graph, model, torch.randn(batch, 5, 8), training)
