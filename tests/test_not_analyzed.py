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
