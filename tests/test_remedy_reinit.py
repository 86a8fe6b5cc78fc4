"""New weights: the gains against torch's own and published ones, which layers are drawn, and that nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import Net
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.base import Case, Plan, Remedy
from gradcheck_tool.remedy.drawing import draw
from gradcheck_tool.remedy.gains import moments
from gradcheck_tool.remedy.layers import Layout
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.theory import activation_named

VECTORS = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def case_for(model: nn.Module, x: Tensor) -> Case:
    inputs = for_model(model, x, None, 0)
    return Case(model, inputs, read(model, inputs).structure)


def planned(model: nn.Module, x: Tensor, remedy: Remedy | None = None) -> Plan:
    return (remedy or Reinitialize()).plan(case_for(model, x))


def remedied(model: nn.Module, x: Tensor, remedy: Remedy | None = None) -> CapturedModule:
    remedy, case = remedy or Reinitialize(), case_for(model, x)
    return remedy.apply(capture(model, case.inputs)[0], remedy.plan(case), case)


def mlp(activation: Callable[[], nn.Module], depth: int = 8, **options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [part for _ in range(depth) for part in (nn.Linear(32, 32, **options), activation())]
    return nn.Sequential(*blocks, nn.Linear(32, 10, **options))


def he(model: nn.Module) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


# gains


@pytest.mark.parametrize(
    ("activation", "gain"),
    [
        (nn.ReLU, nn.init.calculate_gain("relu")),
        (lambda: nn.LeakyReLU(0.2), nn.init.calculate_gain("leaky_relu", 0.2)),
        (nn.Identity, None),
    ],
    ids=["ReLU: He's √2", "LeakyReLU: √(2 / (1 + a²))", "without activations there is no block"],
)
def test_gain_is_that_of_torch_where_torch_is_exact(activation: Callable[[], nn.Module], gain: float | None) -> None:
    gains = [step.gain for step in planned(mlp(activation), VECTORS).steps]
    assert gains == ([] if gain is None else pytest.approx([1.0] + [gain] * 7, rel=1e-5))


def test_gain_of_tanh_lies_between_the_edge_of_chaos_and_five_thirds() -> None:
    gains = [step.gain for step in planned(mlp(nn.Tanh, 30), VECTORS).steps][1:]
    assert gains == sorted(gains, reverse=True)
    assert 1.0 < gains[-1] < gains[0] < nn.init.calculate_gain("tanh")


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "silu", "sigmoid", "selu", "softplus", "glu"])
@pytest.mark.parametrize("q", [0.01, 1.0, 30.0])
def test_moments_are_those_of_the_quadrature(name: str, q: float) -> None:
    from gradcheck_tool.theory.gaussian import log_moments

    activation = activation_named(name)
    assert activation is not None
    found = moments(activation, q)
    logs = [float(value) for value in log_moments(activation, torch.tensor(q).log().double().numpy())[:2]]
    assert [found.second, found.slope] == pytest.approx([math.exp(log) for log in logs], rel=1e-3)


@pytest.mark.parametrize(
    ("activation", "within"),
    [
        (nn.ReLU, 0.5),
        (nn.Tanh, 0.5),
        (nn.Sigmoid, 0.5),
        (nn.ELU, 0.5),
        (nn.GELU, 1.2),
        (nn.SiLU, 1.8),
        (nn.Softplus, 1.5),
    ],
)
def test_gradient_passes_twenty_blocks(activation: Callable[[], nn.Module], within: float) -> None:
    """At this width of 32 samples differ; where the fixed point is unstable (GELU, SiLU) they drift apart."""
    model = mlp(activation, 20)
    before, after = gct.probe(model, VECTORS), gct.probe(remedied(model, VECTORS), VECTORS)
    assert before.measured_decades is not None
    assert after.measured_decades is not None
    assert before.measured_decades < -2
    assert abs(after.measured_decades) < within
    assert after.verdict == "healthy"


def test_sigmoid_without_biases_is_skipped_with_the_reason() -> None:
    plan = planned(mlp(nn.Sigmoid, bias=False), VECTORS)
    assert "no biases that could centre them" in plan.skipped[0].reason


def test_exp_has_no_gain() -> None:
    model = Net(
        lambda net, x: net.d(net.c(net.b(net.a(x).exp()).exp()).exp()), **{k: nn.Linear(32, 32) for k in "abcd"}
    )
    case = case_for(he(model), VECTORS)
    plan = Reinitialize().plan(Case(model, case.inputs, case.structure, min_depth=3))
    assert [step.layer for step in plan.steps] == ["a"]  # whose input is the model's
    assert "exp magnifies any deviation" in plan.skipped[0].reason


class Gated(nn.Module):
    """One half of a layer's outputs times an activation of the other, which magnifies what its inputs are off by."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 64)
        nn.init.normal_(self.layer.weight, std=size / 32**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 32) → (N, 32)."""
        value, gate = self.layer(x).chunk(2, -1)
        gated: Tensor = value * torch.sigmoid(gate)
        return gated


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_without_a_critical_gain_weights_of_an_odd_size_are_drawn_at_one(size: float) -> None:
    model = nn.Sequential(*[Gated(size) for _ in range(6)], nn.Linear(32, 2))
    steps = planned(model, VECTORS, Reinitialize(odd_sizes=True)).steps
    assert [step.gain for step in steps] == [1.0] * 6
    assert [step.layer for step in planned(model, VECTORS).steps] == ["0.layer"]  # nothing keeps the signal behind it


def test_without_a_critical_gain_weights_of_a_sound_size_are_left_alone() -> None:
    model = nn.Sequential(*[Gated(1.0) for _ in range(6)], nn.Linear(32, 2))
    plan = planned(model, VECTORS, Reinitialize(odd_sizes=True))
    assert not plan.steps
    assert len(plan.skipped) == 5


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_weights_of_an_odd_size_are_drawn_anew_in_a_chain_that_passes_the_gradient_too(times: float) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    for layer in (model[0], model[2]):
        nn.init.kaiming_normal_(layer.weight)
        layer.weight.data *= times
    assert not planned(model, torch.randn(8, 16)).steps
    drawn = planned(model, torch.randn(8, 16), Reinitialize(odd_sizes=True)).steps
    assert [(step.layer, round(step.gain, 2)) for step in drawn] == ([] if times == 1.0 else [("0", 1.0), ("2", 1.41)])


def test_constant_factors_between_layers_count() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        for name in "abcde":
            x = 0.5 * F.relu(getattr(net, name)(x))
        return net.out(x)

    model = Net(forward, **{name: nn.Linear(32, 32) for name in (*"abcde", "out")})
    gains = [step.gain for step in planned(model, VECTORS).steps]
    assert gains == pytest.approx([1.0] + [2 * math.sqrt(2)] * 4, rel=1e-5)


# the draw


@pytest.mark.parametrize("scheme", ["orthogonal", "normal"])
@pytest.mark.parametrize(
    ("layer", "layout"),
    [
        (nn.Linear(64, 32), Layout()),
        (nn.Linear(32, 64), Layout()),
        (nn.Conv2d(8, 16, 3), Layout()),
        (nn.Conv1d(16, 32, 3, groups=4), Layout(4)),
        (nn.ConvTranspose2d(16, 8, 2), Layout(1, True)),
        (nn.ConvTranspose2d(16, 8, 2, groups=2), Layout(2, True)),
    ],
    ids=["wide", "tall", "convolution", "groups", "transposed", "transposed groups"],
)
def test_second_moment_is_gain_over_fan_in(layer: Any, layout: Layout, scheme: Any) -> None:
    drawn = draw(layer.weight, layout, math.sqrt(2), scheme, "layer")
    fan_in = layout.matrices(layer.weight).shape[2]
    assert drawn.shape == layer.weight.shape
    assert layout.tensor(layout.matrices(drawn), drawn.shape).equal(drawn)
    assert float(drawn.square().mean()) == pytest.approx(2 / fan_in, rel=1e-4 if scheme == "orthogonal" else 0.15)


def test_orthogonal_rows_have_no_correlation() -> None:
    drawn = draw(torch.empty(16, 64), Layout(), 1.0, "orthogonal", "layer")
    assert torch.allclose(drawn @ drawn.T, torch.eye(16), atol=1e-5)


def test_output_of_a_strided_transposed_convolution_has_the_wished_moment() -> None:
    layer = nn.ConvTranspose2d(32, 32, 4, stride=2, bias=False)
    layout = Layout(1, True, 1 / 4)
    with torch.no_grad():
        layer.weight.copy_(draw(layer.weight, layout, 1.0, "normal", "layer"))
        inside = layer(torch.randn(8, 32, 16, 16))[..., 4:-4, 4:-4]
    assert float(inside.square().mean()) == pytest.approx(1.0, rel=0.1)


def test_values_hang_on_the_name_and_the_seed_alone() -> None:
    weight = torch.empty(8, 8)
    first, again, other, seeded = (
        draw(weight, Layout(), 1.0, "normal", name, seed) for name, seed in [("a", 0), ("a", 0), ("b", 0), ("a", 1)]
    )
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.equal(seeded)


# which layers


def frozen() -> nn.Module:
    model = mlp(nn.ReLU)
    model[2].weight.requires_grad_(False)
    return model


def tied() -> nn.Module:
    model = mlp(nn.ReLU)
    model[4].weight = model[2].weight
    return model


def weight_normed() -> nn.Module:
    model = mlp(nn.ReLU)
    nn.utils.parametrizations.weight_norm(model[2])
    return model


def kept_in_a_list() -> nn.Module:
    model = mlp(nn.ReLU)
    model.kept = [model[2].weight]
    return model


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (frozen, "frozen"),
        (tied, "tied"),
        (kept_in_a_list, "tied"),
        (weight_normed, "computed from other parameters"),
    ],
)
def test_layers_that_must_not_change_are_skipped(build: Callable[[], nn.Module], reason: str) -> None:
    plan = planned(build(), VECTORS)
    assert reason in next(skip.reason for skip in plan.skipped if skip.layer == "2")
    assert "2" not in [step.layer for step in plan.steps]


def recurrent() -> nn.Module:
    """Steps of a cell that adds two layers."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.tanh(net.a(x))
        for _ in range(5):
            h = torch.tanh(net.a(x) + net.b(h))
        return net.out(h)

    return Net(forward, a=nn.Linear(32, 32), b=nn.Linear(32, 32), out=nn.Linear(32, 2))


def test_recurrent_layers_are_skipped() -> None:
    plan = planned(recurrent(), VECTORS)
    assert not plan.steps
    assert all("stepped" in skip.reason for skip in plan.skipped)


@pytest.mark.parametrize(
    "build",
    [
        lambda: he(mlp(nn.ReLU, 10)),
        lambda: mlp(nn.ReLU, 2),
        lambda: mlp(nn.SELU, 6),
        lambda: nn.Sequential(*[p for _ in range(6) for p in (nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU())]),
    ],
    ids=["He", "two layers", "SELU", "batch norm"],
)
def test_healthy_nets_need_nothing(build: Callable[[], nn.Module]) -> None:
    assert planned(build(), VECTORS) == Plan()


def filled(layer: int, value: float, depth: int = 2, parameter: str = "weight") -> nn.Module:
    model = he(mlp(nn.ReLU, depth))
    nn.init.constant_(getattr(model[layer], parameter), value)
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (filled(2, 0.1), "its units all computed the same"),
        (filled(2, 0.0), "its weights were all zero"),
        (filled(2, float("nan")), "not finite"),
        (filled(2, -5.0, parameter="bias"), "drowned its inputs"),
    ],
    ids=["constant", "zero", "NaN", "large bias"],
)
def test_a_broken_layer_alone_is_drawn_at_any_depth(model: nn.Module, why: str) -> None:
    (step,) = planned(model, VECTORS).steps
    assert step.layer == "2"
    assert why in str(step)
    after = remedied(model, VECTORS)
    assert gct.probe(after, VECTORS).verdict == "healthy"
    assert after.get_parameter("2.bias").count_nonzero() == 0


def test_a_head_that_starts_at_zero_is_left_alone() -> None:
    assert planned(filled(4, 0.0), VECTORS) == Plan()


def test_units_of_a_head_may_be_equal() -> None:
    assert planned(filled(4, 0.1), VECTORS) == Plan()


def test_what_others_noted_on_a_parameter_stays() -> None:
    model = mlp(nn.ReLU)
    model[2].weight.no_weight_decay = True
    assert remedied(model, VECTORS).get_parameter("2.weight").no_weight_decay


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU()]
    layers += [nn.ConvTranspose2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 2))


def functional() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = F.relu(F.linear(x, net.a, net.bias))
        x = F.relu(x @ net.b + net.bias_b)
        x = F.relu(torch.addmm(net.bias_c, x, net.c))
        return F.relu(x @ net.d.t()) @ net.out

    parameters = {name: nn.Parameter(torch.full((32, 32), 0.01)) for name in "abcd"}
    parameters |= {name: nn.Parameter(torch.ones(32)) for name in ("bias", "bias_b", "bias_c")}
    return Net(forward, out=nn.Parameter(0.1 * torch.randn(32, 2)), **parameters)


@pytest.mark.parametrize(("build", "x", "count"), [(convolutions, IMAGES, 4), (functional, VECTORS, 4)])
def test_convolutions_and_functional_layers(build: Callable[[], nn.Module], x: Tensor, count: int) -> None:
    model = build()
    assert len([step for step in planned(model, x).steps if step.bias]) >= count - 1
    after = gct.probe(remedied(model, x), x)
    assert after.verdict == "healthy"
    assert abs(after.measured_decades or 9.0) < 0.5


# the copy


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_model_and_random_state_stay_as_they_were() -> None:
    model = mlp(nn.ReLU)
    before, state = bits(model), torch.get_rng_state()
    case = case_for(model, VECTORS)
    captured = capture(model, case.inputs)[0]
    fixed = Reinitialize().apply(captured, Reinitialize().plan(case), case)
    assert torch.get_rng_state().equal(state)
    for kept in (model, captured):
        assert all(tensor.equal(before[name]) for name, tensor in kept.state_dict().items())
    assert list(fixed.state_dict()) == list(before)
    assert not fixed.get_parameter("2.weight").equal(before["2.weight"])
    assert fixed.get_parameter("16.weight") is captured.get_parameter("16.weight")  # not planned: shared


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    fixed = remedied(mlp(nn.ReLU).to(dtype), VECTORS.to(dtype))
    assert {parameter.dtype for parameter in fixed.parameters()} == {dtype}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in fixed.parameters())


def test_a_plan_for_another_model_is_refused() -> None:
    case = case_for(mlp(nn.ReLU), VECTORS)
    plan = Reinitialize().plan(case)
    other = capture(mlp(nn.ReLU, 2), case.inputs)[0]
    with pytest.raises(KeyError, match="no call"):
        Reinitialize().apply(other, plan, case)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="orthogonal, normal"):
        Reinitialize("uniform")  # type: ignore[arg-type]


def test_weights_on_meta_are_skipped() -> None:
    with torch.device("meta"):
        model = mlp(nn.ReLU)
    plan = planned(model, VECTORS.to("meta"))
    assert not plan.steps
    assert all("meta device" in skip.reason for skip in plan.skipped)
