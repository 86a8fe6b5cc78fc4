"""Hand-written normalizations are found by what they compute; what only looks like one is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Net, chains_of, linears, stack, structure_of
from torch import Tensor, nn

X = torch.randn(4, 8)


def layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5)


def layer_norm_by_std(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)


def by_var_mean(x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, -1, keepdim=True)
    return (x - mean) * torch.rsqrt(var + 1e-5)


def by_std_mean(x: Tensor) -> Tensor:
    std, mean = torch.std_mean(x, 0)
    return x.sub(mean).div(std.clamp(min=1e-6))


def by_moments(x: Tensor) -> Tensor:
    mean = x.mean(0)
    var = (x * x).mean(0) - mean * mean
    return (x - mean) / (var + 1e-5).sqrt()


def by_sums(x: Tensor) -> Tensor:
    mean = x.sum(0) / 4
    var = (x - mean).pow(2).sum(0) / 4
    return (x - mean) * (var + 1e-5) ** -0.5


def in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x -= x.mean(0)
    x /= x.std(0) + 1e-5
    return x


def group_norm(x: Tensor) -> Tensor:
    y = x.reshape(4, 2, 4)
    y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True) + 1e-5)
    return y.reshape(4, 8)


def folded(x: Tensor) -> Tensor:
    """The scale is multiplied by one over the spread first, as libraries do it."""
    scale = torch.ones(8) * torch.rsqrt(x.var(0) + 1e-5)
    return x * scale


NORMS = [
    pytest.param(layer_norm, id="layer norm, variance as the mean of squares"),
    pytest.param(layer_norm_by_std, id="layer norm by the standard deviation"),
    pytest.param(by_var_mean, id="var_mean and rsqrt"),
    pytest.param(by_std_mean, id="std_mean, methods, clamp for epsilon"),
    pytest.param(by_moments, id="E[x²] − E[x]²"),
    pytest.param(by_sums, id="sums and a power of −0.5"),
    pytest.param(in_place, id="in place"),
    pytest.param(group_norm, id="group norm by reshaping"),
    pytest.param(folded, id="a scale times one over the spread"),
    pytest.param(lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), id="rms norm with rsqrt"),
    pytest.param(lambda x: x * (x**2).mean(-1, keepdim=True).add(1e-6).pow(-0.5), id="rms norm with a power of −0.5"),
    pytest.param(lambda x: x / (x.norm(dim=-1, keepdim=True) / 8**0.5), id="rms norm with norm()"),
    pytest.param(lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True), id="unit length"),
    pytest.param(lambda x: x / x.square().mean(-1, keepdim=True).sqrt(), id="rms norm with square and sqrt"),
    pytest.param(lambda x: x * (1 / x.std(0)), id="one over the spread first"),
    pytest.param(lambda x: x * torch.reciprocal(x.std(0)), id="the reciprocal of the spread"),
    pytest.param(lambda x: x * (torch.ones(8) / x.std(0)), id="a constant tensor over the spread first"),
    pytest.param(lambda x: x / x.std(0).detach(), id="a spread without gradient"),
    pytest.param(lambda x: (x.double() / x.double().std(0)).float(), id="in double precision"),
    pytest.param(lambda x: 2 * (x - x.mean(0)) / x.var(0, unbiased=False).sqrt() + 1, id="with scale and shift"),
    pytest.param(lambda x: x / torch.maximum(x.std(0), torch.full((), 1e-5)), id="maximum for epsilon"),
]


@pytest.mark.parametrize("norm", NORMS)
def test_a_hand_written_norm_before_the_activation_takes_the_block_out(norm: Callable[[Tensor], Tensor]) -> None:
    structure = structure_of(stack(lambda h: torch.relu(norm(h))), X)
    assert structure.chains == ()
    assert len(structure.forms.norms) == 3


@pytest.mark.parametrize("norm", NORMS)
def test_a_hand_written_norm_after_the_activation_ends_the_run(norm: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(lambda h: norm(torch.relu(h))), X) == [["f.0"], ["f.1"], ["f.2"]]


@pytest.mark.parametrize("norm", NORMS)
def test_what_a_hand_written_norm_is_made_of_is_not_listed(norm: Callable[[Tensor], Tensor]) -> None:
    assert structure_of(stack(lambda h: torch.relu(norm(h))), X).not_analyzed == ()


@pytest.mark.parametrize("norm", NORMS)
def test_the_activation_behind_a_hand_written_norm_belongs_to_its_layer(norm: Callable[[Tensor], Tensor]) -> None:
    structure = structure_of(stack(lambda h: torch.tanh(norm(h))), X)
    names = {call.name: structure.operations[node].name for call, node in structure.activation_of.items()}
    assert names == {"f.0": "tanh", "f.1": "tanh", "f.2": "tanh"}


class BatchNorm(nn.Module):
    """Batch norm by hand; `update` is how it keeps its running statistics."""

    def __init__(self, update: Callable[[BatchNorm, Tensor, Tensor], None]) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.update = update

    def forward(self, x: Tensor) -> Tensor:
        mean, var = x.mean(0), x.var(0, unbiased=False)
        self.update(self, mean, var)
        return self.gamma * (x - mean) / torch.sqrt(var + 1e-5) + self.beta


def rebound(norm: BatchNorm, mean: Tensor, var: Tensor) -> None:
    norm.mean = 0.9 * norm.mean + 0.1 * mean.detach()
    norm.var = 0.9 * norm.var + 0.1 * var.detach()


@torch.no_grad()
def moved(norm: BatchNorm, mean: Tensor, var: Tensor) -> None:
    norm.mean.mul_(0.9).add_(mean, alpha=0.1)
    norm.var.lerp_(var, 0.1)


def by_data(norm: BatchNorm, mean: Tensor, var: Tensor) -> None:
    norm.mean.data = 0.9 * norm.mean.data + 0.1 * mean.data
    norm.var.data.copy_(0.9 * norm.var.data + 0.1 * var.data)


UPDATES = [
    pytest.param(rebound, id="bound to new buffers"),
    pytest.param(moved, id="in place without gradient"),
    pytest.param(by_data, id="through data"),
]


@pytest.mark.parametrize("update", UPDATES)
def test_batch_norm_by_hand_is_a_norm_however_it_keeps_its_statistics(update: Callable[..., None]) -> None:
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(8, 8), BatchNorm(update), nn.ReLU()]
    structure = structure_of(nn.Sequential(*layers, nn.Linear(8, 2)), X)
    assert structure.chains == ()
    assert structure.not_analyzed == ()


@pytest.mark.parametrize("update", UPDATES)
def test_batch_norm_by_hand_may_be_shared(update: Callable[..., None]) -> None:
    norm = BatchNorm(update)
    model = Net(lambda net, x: net.f[2](net.n(net.f[1](net.n(net.f[0](x)).relu())).relu()), f=linears(3), n=norm)
    assert chains_of(model, X) == []


def of_another(x: Tensor) -> Tensor:
    return x / torch.arange(16.0).view(2, 8).std(0)


NOT_NORMS = [
    pytest.param(lambda x: x - x.mean(0), id="centering alone"),
    pytest.param(lambda x: x / 8**0.5, id="division by a number"),
    pytest.param(of_another, id="division by a constant's spread"),
    pytest.param(lambda x: (x - 0.5) / 0.25, id="fixed mean and spread"),
]


@pytest.mark.parametrize("function", NOT_NORMS)
def test_what_only_looks_like_a_norm_leaves_the_run_alone(function: Callable[[Tensor], Tensor]) -> None:
    structure = structure_of(stack(lambda h: function(torch.relu(function(h)))), X)
    assert [[block.name for block in chain] for chain in structure.chains] == [["f.0", "f.1", "f.2"]]
    assert not structure.forms.norms


OTHERS = [
    pytest.param(lambda x: x * x.std(0), id="multiplication by the spread"),
    pytest.param(lambda x: x / x.sum(-1, keepdim=True), id="shares of the sum"),
    pytest.param(lambda x: x / x.mean(-1, keepdim=True), id="division by the mean"),
    pytest.param(lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True), id="softmax by hand"),
    pytest.param(
        lambda x: torch.exp(x - x.amax(-1, keepdim=True)) / torch.exp(x).sum(-1, keepdim=True),
        id="safe softmax by hand",
    ),
    pytest.param(lambda x: x * torch.sigmoid(x.mean(-1, keepdim=True)), id="squeeze and excitation"),
    pytest.param(lambda x: x.std(0) / x, id="the spread over the value"),
    pytest.param(lambda x: x[:, :4].repeat(1, 2) / x[:, 4:].std(0).repeat(2), id="one half over the other's spread"),
    pytest.param(lambda x: torch.sigmoid(x) / x.std(0), id="a bounded activation over the spread before it"),
    pytest.param(lambda x: x.clamp(-1, 1) / x.std(0), id="values clamped on both sides over the spread before it"),
    pytest.param(lambda x: torch.exp(x) / x.std(0), id="an exponential over the spread before it"),
    pytest.param(lambda x: x * torch.exp(x) / x.std(0), id="a product with an exponential over the spread before it"),
    pytest.param(lambda x: torch.relu(x) / torch.relu(x).mean(-1, keepdim=True), id="a ReLU over its mean"),
    pytest.param(lambda x: x / torch.minimum(x.std(0), 2 * x + x.std(0)), id="division by a spread at most"),
    pytest.param(lambda x: torch.relu(x) * x.std(0), id="an activation times the spread before it"),
]


@pytest.mark.parametrize("function", OTHERS)
def test_what_only_looks_like_a_norm_is_none(function: Callable[[Tensor], Tensor]) -> None:
    assert not structure_of(stack(function), X).forms.norms


def test_a_norm_of_a_mean_is_a_norm_of_its_own() -> None:
    """As behind global pooling: the mean is part of no other normalization."""
    pooled = Net(
        lambda net, x: net.out(by_root_mean_square(net.f(x).mean(1)).relu()), f=linears(1)[0], out=linears(1)[0]
    )
    structure = structure_of(pooled, torch.randn(4, 3, 8))
    assert structure.chains == ()
    assert structure.not_analyzed == ()


def by_root_mean_square(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.var(-1, keepdim=True) + 1e-6)


def spread(x: Tensor) -> Tensor:
    return x.var(-1, unbiased=False, keepdim=True).add(1e-5).sqrt().expand_as(x)


def root_mean_square(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).add(1e-5).sqrt_().expand_as(x)


V = torch.arange(1.0, 9.0)
ACTIVATED_NORMS = [
    pytest.param(lambda x: x * torch.sigmoid(x * V) / spread(x), id="EvoNorm S0"),
    pytest.param(lambda x: F.silu(x) / spread(x), id="EvoNorm S1"),
    pytest.param(lambda x: F.silu(x) / root_mean_square(x), id="EvoNorm S2"),
    pytest.param(lambda x: torch.relu(x) / x.std(0), id="a ReLU over the spread before it"),
    pytest.param(lambda x: torch.relu(x) * torch.rsqrt(x.var(0) + 1e-5), id="a ReLU times one over the spread"),
    pytest.param(lambda x: F.leaky_relu(2 * x + 1) / x.std(0), id="a leaky ReLU of a scaled value"),
    pytest.param(lambda x: x.clamp(min=0) / x.std(0), id="a ReLU as a clamp"),
    pytest.param(lambda x: torch.maximum(x, torch.zeros(8)) / x.std(0), id="a ReLU as a maximum"),
    pytest.param(lambda x: x * torch.tanh(x) * torch.sigmoid(x) / x.std(0), id="two gates"),
    pytest.param(lambda x: x.abs() / x.abs().mean(-1, keepdim=True), id="absolute values over their mean"),
]


@pytest.mark.parametrize("norm", ACTIVATED_NORMS)
def test_an_activation_that_grows_as_its_input_may_be_normalized_with_it(norm: Callable[[Tensor], Tensor]) -> None:
    x = 1e4 * X
    torch.testing.assert_close(norm(1e3 * x), norm(x), rtol=1e-3, atol=1e-3)  # the scale of x is taken out
    structure = structure_of(stack(norm), X)
    assert structure.chains == ()
    assert structure.not_analyzed == ()
    assert len(structure.forms.norms) == 3
    assert [call.name for call in structure.activation_of] == ["f.0", "f.1", "f.2"]


def test_an_activation_that_is_read_elsewhere_too_is_one() -> None:
    """The other way is not normalized."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.f[0](x)
        a = torch.relu(h)
        return net.f[1](a / h.std(0)).tanh() + net.f[2](a)

    structure = structure_of(Net(forward, f=linears(3)), X)
    assert [block.name for chain in structure.chains for block in chain] == ["f.0"]


@pytest.mark.parametrize("norm", ACTIVATED_NORMS)
def test_what_stands_before_such_a_norm_is_a_block_still(norm: Callable[[Tensor], Tensor]) -> None:
    assert chains_of(stack(lambda h: norm(torch.relu(h))), X) == [["f.0"], ["f.1"], ["f.2"]]


AT_LEAST = [
    pytest.param(lambda x: x / torch.maximum(x.std(0), x * V + spread(x)), id="EvoNorm B0"),
    pytest.param(lambda x: x / x.std(0).expand_as(x).max((x + 1) * root_mean_square(x)), id="EvoNorm B1"),
    pytest.param(lambda x: x / torch.maximum(x.std(0), root_mean_square(x) - x), id="EvoNorm B2"),
]


@pytest.mark.parametrize("norm", AT_LEAST)
def test_division_by_a_spread_at_least_is_a_norm(norm: Callable[[Tensor], Tensor]) -> None:
    structure = structure_of(stack(lambda h: torch.relu(norm(h))), X)
    assert structure.chains == ()
    assert structure.not_analyzed == ()


def ratio(x: Tensor) -> Tensor:
    energy = x.norm(dim=1, keepdim=True)
    return energy / (energy.mean(-1, keepdim=True) + 1e-6)


def ratio_by_squares(x: Tensor) -> Tensor:
    energy = x.square().sum(1, keepdim=True).sqrt()
    return energy * torch.reciprocal(energy.mean(-1, keepdim=True) + 1e-6)


GATES = [
    pytest.param(lambda x: x + V * (x * ratio(x)), id="as ConvNeXt V2 has it"),
    pytest.param(lambda x: torch.addcmul(x, V, x * ratio(x)), id="by addcmul"),
    pytest.param(lambda x: x * ratio(x), id="without the shortcut"),
    pytest.param(lambda x: (1 + V * ratio(x)) * x, id="the gate scaled"),
    pytest.param(lambda x: x + V * (x * ratio_by_squares(x)), id="the norm by squares"),
]


@pytest.mark.parametrize("gate", GATES)
def test_global_response_normalization_is_a_gate_and_the_run_goes_on(gate: Callable[[Tensor], Tensor]) -> None:
    """Twice the input gives twice the output: nothing is normalized."""
    x = torch.randn(4, 3, 8)
    torch.testing.assert_close(gate(1e3 * x), 1e3 * gate(x))
    structure = structure_of(stack(lambda h: gate(torch.relu(h))), x)
    assert [[block.name for block in chain] for chain in structure.chains] == [["f.0", "f.1", "f.2"]]
    assert structure.not_analyzed == ()
    assert not structure.forms.norms


@pytest.mark.parametrize("gate", GATES)
def test_a_layer_in_front_of_such_a_gate_is_no_block(gate: Callable[[Tensor], Tensor]) -> None:
    """As in front of any gate: the product is a join."""
    assert chains_of(stack(lambda h: torch.relu(gate(h))), torch.randn(4, 3, 8)) == []


LISTED = [
    pytest.param(lambda x: x * x.norm(dim=1, keepdim=True), "norm", id="multiplication by a norm"),
    pytest.param(lambda x: x * torch.sigmoid(x.std(1, keepdim=True)), "std", id="a gate of a spread"),
    pytest.param(lambda x: x + ratio(x), "norm", id="a ratio that is added"),
    pytest.param(lambda x: x.std(1, keepdim=True).expand_as(x), "std", id="pooling by the spread"),
]


@pytest.mark.parametrize(("function", "name"), LISTED)
def test_a_statistic_in_neither_is_listed(function: Callable[[Tensor], Tensor], name: str) -> None:
    structure = structure_of(stack(lambda h: function(torch.relu(h)), 2), torch.randn(4, 3, 8))
    assert [entry.reason for entry in structure.not_analyzed] == [
        f"{name} outside a normalization; the run ends there"
    ] * 2


def test_division_by_another_layer_s_spread_is_no_norm() -> None:
    model = Net(lambda net, x: net.f[2](torch.relu(net.f[0](x) / net.f[1](x).std(0))), f=linears(3))
    assert not structure_of(model, X).forms.norms


def test_the_square_of_a_variance_that_nothing_divides_by_is_an_activation() -> None:
    assert chains_of(stack(lambda h: (h - h.mean(0)) ** 2), X) == [["f.0", "f.1", "f.2"]]
