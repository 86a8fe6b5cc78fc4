"""What the analysis does not understand ends the run and is listed with a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Net, stack, structure_of
from torch import Tensor, nn

X = torch.randn(4, 8)
THREE = [["f.0", "f.1", "f.2"]]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad * 2


double = Double.apply

UNKNOWN = [
    pytest.param(lambda h: torch.softmax(h, -1), "softmax in the middle of the model", id="a softmax in the middle"),
    pytest.param(lambda h: h.sort(-1).values, "sort is not an operation", id="a sort"),
    pytest.param(lambda h: torch.fft.fft(h).real, "fft_fft is not an operation", id="a Fourier transform"),
    pytest.param(
        lambda h: Double.apply(1 * h), "a custom autograd function is not looked into", id="a custom autograd function"
    ),
    pytest.param(lambda h: h.cumprod(-1), "cumprod is not an operation", id="a running product"),
    pytest.param(lambda h: torch.cdist(h, torch.eye(8)), "cdist is not an operation", id="distances"),
]


@pytest.mark.parametrize(("function", "reason"), UNKNOWN)
def test_what_is_not_understood_ends_the_run_and_is_listed(function: Callable[[Tensor], Tensor], reason: str) -> None:
    structure = structure_of(stack(lambda h: function(torch.relu(h)), 2), X)
    assert [[block.name for block in chain] for chain in structure.chains] == [["f.0"], ["f.1"]]
    assert [entry.reason.startswith(reason) for entry in structure.not_analyzed] == [True, True]
    assert all(entry.reason.endswith("the run ends there") for entry in structure.not_analyzed)


def test_a_custom_autograd_function_under_a_name_of_its_own_is_listed() -> None:
    structure = structure_of(stack(lambda h: double(torch.relu(h)), 2), X)
    assert [[block.name for block in chain] for chain in structure.chains] == [["f.0"], ["f.1"]]
    assert len(structure.not_analyzed) == 2


def test_an_lstm_is_listed() -> None:
    model = Net(
        lambda net, x: net.out(net.rnn(torch.relu(net.fc(x)))[0]),
        fc=nn.Linear(8, 8),
        rnn=nn.LSTM(8, 8),
        out=nn.Linear(8, 2),
    )
    structure = structure_of(model, X)
    assert [[block.name for block in chain] for chain in structure.chains] == [["fc"]]
    assert [entry.reason for entry in structure.not_analyzed] == [
        "the steps inside LSTM run fused and are not seen; the run ends there"
    ]


UNDERSTOOD = [
    pytest.param(lambda h: torch.softmax(h, -1), id="a final softmax"),
    pytest.param(lambda h: F.cross_entropy(h, torch.zeros(4, dtype=torch.long)), id="a loss"),
    pytest.param(lambda h: h.argmax(-1), id="a choice of class"),
]


@pytest.mark.parametrize("function", UNDERSTOOD)
def test_what_stands_at_the_end_is_not_listed(function: Callable[[Tensor], Tensor]) -> None:
    assert structure_of(Net(lambda net, x: function(net.out(x)), out=nn.Linear(8, 2)), X).not_analyzed == ()


class Attention(nn.Module):
    """Attention over tokens; `mix` is given the weights (batch, head, query, key)."""

    def __init__(self, mix: nn.Module) -> None:
        super().__init__()
        self.queries, self.keys, self.values, self.mix = *(nn.Linear(8, 8) for _ in range(3)), mix

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.queries, self.keys, self.values))
        return (self.mix((q @ k.mT).softmax(-1)) @ v).transpose(1, 2).flatten(2)


def over(function: Callable[[Net, Tensor], Tensor], layer: nn.Module | nn.Parameter) -> Net:
    return Net(function, layer=layer)


HEADS = nn.Linear(2, 2)
WEIGHTS = nn.Parameter(torch.randn(2, 2))
MIXES = [
    pytest.param(
        over(lambda net, w: F.dropout(net.layer(w.permute(0, 2, 3, 1)).permute((0, 3, 1, 2)), 0.1), HEADS),
        id="a linear layer on the permuted weights",
    ),
    pytest.param(
        over(lambda net, w: net.layer(w.transpose(1, 3) * 0.5).transpose(-1, 1), HEADS), id="on the transposed weights"
    ),
    pytest.param(nn.Conv2d(2, 2, 1), id="a pointwise convolution"),
    pytest.param(
        over(lambda net, w: torch.einsum("bhij,hg->bgij", w, net.layer), WEIGHTS), id="einsum with a parameter"
    ),
    pytest.param(
        over(lambda net, w: (w.permute(0, 2, 3, 1) @ net.layer).permute(0, 3, 1, 2), WEIGHTS), id="a matrix product"
    ),
    pytest.param(
        over(lambda net, w: F.linear(w.permute(0, 2, 3, 1), net.layer).permute(0, 3, 1, 2), WEIGHTS), id="F.linear"
    ),
]


@pytest.mark.parametrize("mix", MIXES)
def test_attention_whose_heads_talk_is_attention(mix: nn.Module) -> None:
    model = Net(lambda net, x: net.out(net.attention(net.f(x).relu())), f=nn.Linear(8, 8), attention=Attention(mix))
    model.out = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    structure = structure_of(model, torch.randn(2, 5, 8))
    assert structure.not_analyzed == ()
    assert [[block.name for block in chain] for chain in structure.chains] == [["f", "out.0"]]


FIVE = nn.Linear(5, 5)
NO_MIXES = [
    pytest.param(FIVE, id="a layer over the keys"),
    pytest.param(nn.Conv2d(2, 2, 3, padding=1), id="a convolution over more than one key"),
    pytest.param(over(lambda net, w: torch.einsum("bhij,jk->bhik", w, net.layer.weight), FIVE), id="einsum over keys"),
    pytest.param(nn.Softmax(-1), id="another softmax, of which the first is listed"),
    pytest.param(over(lambda net, w: net.layer(w.reshape(2, 2, 25).mT).mT.reshape(2, 2, 5, 5), HEADS), id="reshaped"),
]


@pytest.mark.parametrize("mix", NO_MIXES)
def test_a_layer_over_what_the_softmax_weighed_ends_its_meaning(mix: nn.Module) -> None:
    model = Net(lambda net, x: net.out(net.attention(net.f(x).relu())), f=nn.Linear(8, 8), attention=Attention(mix))
    model.out = nn.Linear(8, 2)
    structure = structure_of(model, torch.randn(2, 5, 8))
    assert [entry.reason for entry in structure.not_analyzed] == [
        "softmax in the middle of the model; the run ends there"
    ]


def test_a_softmax_that_queries_are_made_of_weighs_nothing() -> None:
    model = Net(
        lambda net, x: net.out(net.attention(net.f(x).softmax(-1))),
        f=nn.Linear(8, 8),
        attention=Attention(nn.Identity()),
        out=nn.Linear(8, 2),
    )
    structure = structure_of(model, torch.randn(2, 5, 8))
    assert [entry.node for entry in structure.not_analyzed] == ["softmax"]
