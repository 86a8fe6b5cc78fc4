"""Blocks and chains: what counts as a block, what ends a run, what a layer is called. Joins: test_joins.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Chains, Net, chains_of, linears, stack, structure_of
from torch import Tensor, nn

X = torch.randn(4, 8)
THREE = [["f.0", "f.1", "f.2"]]


def gated(h: Tensor) -> Tensor:
    a, b = h.chunk(2, -1)
    return torch.cat([a * torch.sigmoid(b)] * 2, -1)


ACTIVATIONS = [
    pytest.param(F.relu, "relu", id="a function of torch.nn.functional"),
    pytest.param(torch.relu, "relu", id="a function of torch"),
    pytest.param(lambda h: h.relu(), "relu", id="a method"),
    pytest.param(lambda h: h.relu_(), "relu", id="a method in place"),
    pytest.param(lambda h: F.relu(h, inplace=True), "relu", id="a function in place"),
    pytest.param(nn.ReLU(), "ReLU", id="a module"),
    pytest.param(nn.LeakyReLU(inplace=True), "LeakyReLU", id="a module in place"),
    pytest.param(nn.PReLU(), "PReLU", id="a module with a parameter"),
    pytest.param(lambda h: h.clamp(min=0), "clamp", id="clamp at zero"),
    pytest.param(torch.exp, "exp", id="exp"),
    pytest.param(torch.abs, "abs", id="abs"),
    pytest.param(lambda h: h**2, "pow", id="a power"),
    pytest.param(lambda h: 2**h, "__rpow__", id="a number to the power of it"),
    pytest.param(lambda h: h * h, "mul", id="its square as a product"),
    pytest.param(lambda h: 1 / (1 + torch.exp(-h)), "exp", id="a sigmoid written out"),
    pytest.param(lambda h: h * torch.sigmoid(h), "mul(sigmoid)", id="a SiLU written out"),
    pytest.param(lambda h: h * (h > 0), "mul", id="a ReLU as a product with a mask of itself"),
    pytest.param(lambda h: torch.where(h > 0, h, 0.1 * h), "where", id="a leaky ReLU as a selection"),
    pytest.param(lambda h: torch.maximum(h, torch.zeros(())), "maximum", id="a ReLU as a maximum with zero"),
    pytest.param(
        lambda h: torch.maximum(h, 0.1 * h), "maximum", id="a leaky ReLU as a maximum of two of its multiples"
    ),
    pytest.param(lambda h: h.masked_fill(h < 0, 0.0), "masked_fill", id="a ReLU as a fill of what is negative"),
    pytest.param(lambda h: h + torch.relu(h), "add(relu)", id="a sum with its own activation"),
    pytest.param(gated, "mul(sigmoid)", id="a gate between the halves of one output"),
    pytest.param(lambda h: torch.cat([h[:, :4].relu(), (-h[:, :4]).relu()], -1), "cat(relu)", id="a CReLU"),
    pytest.param(lambda h: torch.logaddexp(h, torch.zeros(())), "logaddexp", id="a softplus as logaddexp with zero"),
    pytest.param(lambda h: F.max_pool1d(h[:, None], 3, 1, 1)[:, 0].relu(), "relu", id="a ReLU behind pooling"),
]


@pytest.mark.parametrize(("activate", "name"), ACTIVATIONS)
def test_an_activation_makes_a_block(activate: Callable[[Tensor], Tensor], name: str) -> None:
    (chain,) = structure_of(stack(activate), X).chains
    assert [block.name for block in chain] == THREE[0]
    assert {block.activation_name for block in chain} == {name}


def test_glu_is_an_activation() -> None:
    layers = nn.ModuleList(nn.Linear(8, 16) for _ in range(3))
    assert (
        chains_of(
            Net(
                lambda net, x: net.out(F.glu(net.f[2](F.glu(net.f[1](F.glu(net.f[0](x))))))),
                f=layers,
                out=nn.Linear(8, 2),
            ),
            X,
        )
        == THREE
    )


def rotary(h: Tensor) -> Tensor:
    a, b = h.chunk(2, -1)
    angle = torch.arange(4.0)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


LINEAR = [
    pytest.param(lambda h: h * 2 + 1, id="scaling and shifting by numbers"),
    pytest.param(lambda h: h / torch.arange(1.0, 9.0), id="division by a constant"),
    pytest.param(lambda h: torch.cat([-h[:, 4:], h[:, :4]], 1), id="swapping halves"),
    pytest.param(rotary, id="a rotary embedding"),
    pytest.param(lambda h: h - h.mean(0), id="centering"),
    pytest.param(lambda h: h + h.flip(0), id="a sum with itself, moved"),
    pytest.param(lambda h: h.flatten().view(4, 8).double().float(), id="reshaping and casting"),
    pytest.param(lambda h: F.dropout(h, 0.5), id="dropout"),
    pytest.param(lambda h: h @ torch.eye(8), id="a fixed matrix"),
    pytest.param(lambda h: h.masked_fill(torch.ones(8) > 2, 0.0), id="a fixed mask"),
    pytest.param(lambda h: h.view_as(torch.relu(h)), id="the shape of an activation alone"),
]


@pytest.mark.parametrize("function", LINEAR)
def test_a_linear_function_is_no_activation(function: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(function), X) == []


@pytest.mark.parametrize("function", LINEAR)
def test_a_block_reaches_its_activation_through_passing_ops(function: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(lambda h: torch.relu(function(h))), X) == THREE


@pytest.mark.parametrize("function", LINEAR)
def test_a_run_goes_on_through_passing_ops(function: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(lambda h: function(torch.relu(h))), X) == THREE


HEADS = [
    pytest.param(torch.sigmoid, id="sigmoid of the output"),
    pytest.param(lambda h: torch.tanh(h) * 3 + 1, id="tanh of the output, scaled"),
    pytest.param(lambda h: F.softplus(h).mean(0), id="softplus of the output, averaged"),
    pytest.param(lambda h: torch.softmax(torch.relu(h), -1), id="activation and softmax"),
    pytest.param(lambda h: {"mean": h[:, :1], "scale": [h[:, 1:].exp()]}, id="activation of one of several outputs"),
    pytest.param(lambda h: F.mse_loss(torch.sigmoid(h), torch.zeros(4, 2)), id="activation and loss"),
    pytest.param(lambda h: torch.exp(h) / torch.exp(h).sum(-1, keepdim=True), id="softmax written out"),
]


@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_no_block(head: Callable[[Tensor], Tensor]) -> None:
    model = Net(lambda net, x: head(net.out(torch.relu(net.fc(x)))), fc=nn.Linear(8, 8), out=nn.Linear(8, 2))
    assert chains_of(model, X) == [["fc"]]


def test_the_layer_before_the_logits_is_a_block() -> None:
    assert chains_of(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), X) == [["0"]]


def test_an_activation_that_feeds_the_output_and_a_layer_is_no_head() -> None:
    def forward(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(net.fc(x))
        return features, net.out(features)

    assert chains_of(Net(forward, fc=nn.Linear(8, 8), out=nn.Linear(8, 2)), X) == [["fc"]]


NORMS = [
    pytest.param(nn.BatchNorm1d(8), id="BatchNorm1d"),
    pytest.param(nn.LayerNorm(8), id="LayerNorm"),
    pytest.param(nn.RMSNorm(8), id="RMSNorm"),
    pytest.param(nn.GroupNorm(2, 8), id="GroupNorm"),
    pytest.param(lambda h: nn.InstanceNorm1d(8)(h[:, :, None].expand(4, 8, 3))[:, :, 0], id="InstanceNorm1d"),
    pytest.param(lambda h: F.local_response_norm(h[:, :, None], 2)[:, :, 0], id="F.local_response_norm"),
    pytest.param(lambda h: F.layer_norm(h, (8,)), id="F.layer_norm"),
    pytest.param(lambda h: F.batch_norm(h, None, None, training=True), id="F.batch_norm"),
    pytest.param(lambda h: F.group_norm(h, 2), id="F.group_norm"),
    pytest.param(lambda h: F.rms_norm(h, (8,)), id="F.rms_norm"),
    pytest.param(lambda h: F.instance_norm(h[:, None].expand(4, 2, 8))[:, 0], id="F.instance_norm"),
    pytest.param(F.normalize, id="F.normalize"),
    pytest.param(lambda h: torch.layer_norm(h, (8,)), id="torch.layer_norm"),
]


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_before_the_activation_takes_the_block_out(norm: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(lambda h: torch.relu(norm(h))), X) == []


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_after_the_activation_ends_the_run(norm: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(lambda h: norm(torch.relu(h))), X) == [["f.0"], ["f.1"], ["f.2"]]


def test_a_norm_after_a_layer_that_is_no_block_ends_the_run() -> None:
    body = (nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert chains_of(nn.Sequential(*body), X) == [["0"], ["4"]]


def test_a_norm_in_the_middle_of_forward_ends_the_run() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        for index, layer in enumerate(net.f):
            x = torch.relu(layer(x))
            x = F.layer_norm(x, (8,)) if index == 1 else x
        return net.out(x)

    assert chains_of(Net(forward, f=linears(4), out=nn.Linear(8, 2)), X) == [["f.0", "f.1"], ["f.2", "f.3"]]


def test_a_weight_layer_that_is_no_block_neither_counts_nor_ends_the_run() -> None:
    body = (nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert chains_of(nn.Sequential(*body), X) == [["0", "3"]]


def fork(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    x = torch.relu(net.stem(x))
    short = net.short_out(torch.relu(net.short(x)))
    for layer in net.long:
        x = torch.relu(layer(x))
    return short, net.out(x)


def test_where_a_path_forks_the_longest_continuation_keeps_the_run() -> None:
    parts = {name: nn.Linear(8, 8) for name in ("stem", "short", "short_out", "out")}
    assert chains_of(Net(fork, long=linears(2), **parts), X) == [["stem", "long.0", "long.1"], ["short"]]


def test_at_a_tie_the_continuation_computed_first_keeps_the_run() -> None:
    parts = {name: nn.Linear(8, 8) for name in ("stem", "short", "short_out", "out")}
    assert chains_of(Net(fork, long=linears(1), **parts), X) == [["stem", "short"], ["long.0"]]


def test_an_embedding_starts_a_run() -> None:
    body = (nn.Embedding(5, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    assert chains_of(nn.Sequential(*body), torch.zeros(4, dtype=torch.long)) == [["1", "3"]]


def test_a_net_that_starts_from_a_learned_constant_has_chains() -> None:
    model = stack(torch.relu)
    model.start = nn.Parameter(torch.randn(1, 8))
    inner = model._forward
    model._forward = lambda net, x: inner(net, net.start) + x[:, :2]
    assert chains_of(model, X) == THREE


def test_the_depth_of_a_chain_is_not_limited_by_recursion() -> None:
    expected: Chains = [[f"f.{index}" for index in range(2000)]]
    assert chains_of(stack(torch.relu, 2000, 2), torch.randn(2, 2)) == expected
