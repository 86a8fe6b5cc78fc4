"""Joins: which run goes on where several tensors that depend on the input meet. Expected chains are derived by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Chains, Net, chains_of, linears, structure_of
from torch import Tensor, nn

X = torch.randn(4, 8)
OUT = {"out": nn.Linear(8, 2)}


def run(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = torch.relu(layer(x))
    return x


def joined(join: Callable[[Tensor, Tensor], Tensor]) -> Net:
    """A stem, a short way of one block and a long one of three computed after it, joined; then two more blocks."""

    def forward(net: Net, x: Tensor) -> Tensor:
        x = run(net.stem, x)
        x = join(run(net.short, x), run(net.long, x))
        return net.out(run(net.tail, x))

    return Net(forward, stem=linears(1), short=linears(1), long=linears(3), tail=linears(2), **OUT)


SHORT_GOES_ON = [["stem.0", "short.0", "tail.0", "tail.1"], ["long.0", "long.1", "long.2"]]

JOINS = [
    pytest.param(lambda a, b: a + b, id="addition"),
    pytest.param(lambda a, b: a.add_(b), id="addition in place"),
    pytest.param(lambda a, b: b - a, id="subtraction"),
    pytest.param(lambda a, b: torch.cat([b, a], 1)[:, 4:12], id="concatenation"),
    pytest.param(lambda a, b: torch.stack([a, b]).mean(0), id="stacking"),
    pytest.param(lambda a, b: a * b, id="multiplication"),
    pytest.param(lambda a, b: b * torch.sigmoid(a), id="a gate"),
    pytest.param(lambda a, b: a / (1 + b), id="division"),
    pytest.param(torch.maximum, id="maximum of two"),
    pytest.param(lambda a, b: torch.lerp(a, b, 0.5), id="interpolation"),
    pytest.param(lambda a, b: torch.where(a > b, a, b), id="selection"),
    pytest.param(lambda a, b: (b.T @ a) @ torch.ones(8, 1) @ torch.ones(1, 8), id="matrix product of activations"),
    pytest.param(lambda a, b: torch.einsum("bi,bi->b", a, b)[:, None].expand(4, 8), id="einsum of activations"),
    pytest.param(lambda a, b: F.scaled_dot_product_attention(a, b, b), id="fused attention"),
    pytest.param(lambda a, b: torch.softmax(a @ b.T, -1) @ b, id="attention by hand"),
    pytest.param(lambda a, b: F.dropout(torch.softmax(a @ b.T / 3, -1), 0.1) @ b, id="attention by hand, with dropout"),
]


@pytest.mark.parametrize("join", JOINS)
def test_the_run_with_the_fewest_blocks_goes_on(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert chains_of(joined(join), X) == SHORT_GOES_ON


@pytest.mark.parametrize("join", [case for case in JOINS if case.id != "a gate"])
def test_a_layer_that_meets_a_join_before_its_activation_is_no_block(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.out(torch.relu(join(net.a(x), net.b(x))))

    structure = structure_of(Net(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 8), **OUT), X)
    assert structure.chains == ()


def test_in_a_gate_the_layer_behind_the_sigmoid_alone_is_a_block() -> None:
    model = Net(
        lambda net, x: net.out(torch.relu(net.b(x) * torch.sigmoid(net.a(x)))),
        a=nn.Linear(8, 8),
        b=nn.Linear(8, 8),
        **OUT,
    )
    assert chains_of(model, X) == [["a"]]


def test_attention_is_not_listed_as_not_analyzed() -> None:
    assert structure_of(joined(lambda a, b: torch.softmax(a @ b.T, -1) @ b), X).not_analyzed == ()


def test_attention_of_one_tensor_to_itself_is_a_join() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.a(x)
        return net.out(torch.relu(F.scaled_dot_product_attention(h, h, h)))

    assert chains_of(Net(forward, a=nn.Linear(8, 8), **OUT), X) == []


def test_bilinear_joins_its_inputs_and_is_a_weight_layer() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.out(torch.relu(net.pair(run(net.short, x), run(net.long, x))))

    model = Net(forward, short=linears(1), long=linears(2), pair=nn.Bilinear(8, 8, 8), **OUT)
    assert chains_of(model, X) == [["short.0", "pair"], ["long.0", "long.1"]]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param("a", [["a.0", "tail.0"], ["b.0"]], id="the left one first"),
        pytest.param("b", [["b.0", "tail.0"], ["a.0"]], id="the right one first"),
    ],
)
def test_at_a_tie_the_run_computed_first_goes_on(first: str, expected: Chains) -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        branches = {name: run(getattr(net, name), x) for name in (("a", "b") if first == "a" else ("b", "a"))}
        return net.out(run(net.tail, branches["a"] + branches["b"]))

    assert chains_of(Net(forward, a=linears(1), b=linears(1), tail=linears(1), **OUT), X) == expected


def test_of_three_the_run_with_the_fewest_blocks_goes_on() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.out(run(net.tail, torch.cat([run(net.a, x), run(net.b, x), run(net.c, x)], 1)[:, :8]))

    model = Net(forward, a=linears(3), b=linears(1), c=linears(2), tail=linears(1), **OUT)
    assert chains_of(model, X) == [["a.0", "a.1", "a.2"], ["b.0", "tail.0"], ["c.0", "c.1"]]


def test_a_squeeze_and_excitation_gate_is_a_way_round() -> None:
    """The run through the features themselves is shorter than that through the gate."""

    def forward(net: Net, x: Tensor) -> Tensor:
        for conv, down, up in zip(net.convs, net.down, net.up, strict=True):
            x = torch.relu(conv(x))
            x = x * torch.sigmoid(up(torch.relu(down(x.mean(-1)))))[:, :, None]
        return net.out(x.mean(-1))

    convs = nn.ModuleList(nn.Conv1d(8, 8, 3, padding=1) for _ in range(2))
    model = Net(forward, convs=convs, down=linears(2), up=linears(2), **OUT)
    expected = [["convs.0", "convs.1", "down.1", "up.1"], ["down.0", "up.0"]]
    assert chains_of(model, torch.randn(2, 8, 5)) == expected


def test_a_gate_of_two_layers_is_a_join() -> None:
    """SwiGLU: the gate's layer is a block, the value's layer is joined before any activation."""

    def forward(net: Net, x: Tensor) -> Tensor:
        for gate, value, down in zip(net.gate, net.value, net.down, strict=True):
            x = down(F.silu(gate(x)) * value(x))
        return x

    model = Net(forward, gate=linears(3), value=linears(3), down=linears(3))
    assert chains_of(model, X) == [["gate.0"], ["gate.1"], ["gate.2"]]


def test_a_skip_from_the_input_starts_the_run_anew() -> None:
    model = Net(lambda net, x: net.out(run(net.b, run(net.a, x) + x)), a=linears(3), b=linears(2), **OUT)
    assert chains_of(model, X) == [["a.0", "a.1", "a.2"], ["b.0", "b.1"]]


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(torch.ones(4, dtype=torch.long), id="an integer mask"),
        pytest.param(torch.ones(4, dtype=torch.bool), id="a boolean mask"),
    ],
)
@pytest.mark.parametrize(
    "apply",
    [
        pytest.param(lambda h, m: h * m[:, None], id="as a factor"),
        pytest.param(lambda h, m: h * m[:, None].float(), id="as a factor, cast"),
        pytest.param(lambda h, m: h.masked_fill(m[:, None] == 0, -1e9), id="by masked_fill"),
        pytest.param(lambda h, m: torch.where(m[:, None] > 0, h, -1.0), id="by where"),
        pytest.param(lambda h, m: h + (1 - m.float())[:, None] * -1e9, id="as a summand"),
        pytest.param(lambda h, m: h[m.long().argsort()], id="as an order"),
    ],
)
def test_a_mask_is_no_join(apply: Callable[[Tensor, Tensor], Tensor], mask: Tensor) -> None:
    model = Net(
        lambda net, x, m: net.out(apply(torch.relu(net.b(apply(torch.relu(net.a(x)), m))), m)),
        a=nn.Linear(8, 8),
        b=nn.Linear(8, 8),
        **OUT,
    )
    assert chains_of(model, X, mask) == [["a", "b"]]


def test_what_does_not_depend_on_the_input_is_no_join() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        position = net.position(torch.arange(4))
        learned = torch.relu(net.of_query(net.query))
        return net.out(torch.relu(net.b(torch.relu(net.a(x)) * net.scale + position + learned)))

    parts = {
        "query": nn.Parameter(torch.randn(4, 8)),
        "scale": nn.Parameter(torch.ones(8)),
        "position": nn.Embedding(4, 8),
    }
    model = Net(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 8), of_query=nn.Linear(8, 8), **parts, **OUT)
    assert ["a", "b"] in chains_of(model, X)


def test_a_value_that_is_assigned_into_an_activation_joins_it() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = run(net.a, x) * 1
        h[:, 0] = run(net.b, x)[:, 0]
        return net.out(run(net.tail, h))

    model = Net(forward, a=linears(3), b=linears(1), tail=linears(1), **OUT)
    assert chains_of(model, X) == [["a.0", "a.1", "a.2"], ["b.0", "tail.0"]]
