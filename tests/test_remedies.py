"""Residual branches, activations, inputs, combinations and what they cost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import Net
from test_remedy_reinit import VECTORS, bits, case_for, he, mlp, planned, recurrent, remedied
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.capturing import capture
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.activations import ChangeActivation
from gradcheck_tool.remedy.base import Plan, Remedy
from gradcheck_tool.remedy.branches import ScaleBranches
from gradcheck_tool.remedy.combination import Combination, steps_of
from gradcheck_tool.remedy.cost import cost
from gradcheck_tool.remedy.lsuv import LayerSequentialUnitVariance
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.scale_inputs import ScaleInputs
from gradcheck_tool.remedy.shortcuts import AddShortcuts

CHANGE_THEN_DRAW = Combination((ChangeActivation(), Reinitialize()))

# residual branches


class Residual(nn.Module):
    """x + f(x), with norms and factors in the places asked for."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self.parts = parts
        self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 32)
        self.norm = nn.BatchNorm1d(32) if any(part.startswith("norm") for part in parts) else nn.Identity()
        self.gamma = nn.Parameter(torch.full((32,), 0.1)) if "layer scale" in parts else None
        self.projection = nn.Linear(32, 32) if "projection" in parts else nn.Identity()
        if "zero" in parts:
            nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(torch.relu(self.a(self.norm(x) if "norm first" in self.parts else x)))
        y = self.norm(y) if "norm last" in self.parts else y
        y = 0.1 * y if "constant" in self.parts else y
        y = self.gamma * y if self.gamma is not None else y
        y = y * torch.ones(len(y), 1).bernoulli_(0.9) if "stochastic" in self.parts else y
        y = self.projection(x) + y
        return self.norm(y) if "norm after" in self.parts else y


def residual(*parts: str, depth: int = 10) -> nn.Module:
    torch.manual_seed(0)
    blocks = [Residual(*parts) for _ in range(depth)]
    model = nn.Sequential(nn.Linear(32, 32), *blocks, nn.Linear(32, 10))
    return model if "zero" in parts else he(model)


@pytest.mark.parametrize("value", [0.0, None])
@pytest.mark.parametrize("parts", [(), ("projection",)], ids=["identity", "projection"])
def test_unnormalized_branches_get_a_learnable_factor(parts: tuple[str, ...], value: float | None) -> None:
    model, remedy = residual(*parts), ScaleBranches(value)
    plan = planned(model, VECTORS, remedy)
    assert [step.layer for step in plan.steps] == [f"{block}.b" for block in range(1, 11)]
    assert "one of 10 additions" in str(plan.steps[0])
    fixed = remedied(model, VECTORS, remedy)
    factors = [fixed.get_parameter(f"{block}.b_scale") for block in range(1, 11)]
    assert [float(factor) for factor in factors] == pytest.approx([0.0 if value == 0.0 else 10**-0.5] * 10)
    before, after = (abs(gct.probe(net, VECTORS).measured_decades or 9.0) for net in (model, fixed))
    assert after < 0.6 * before


def test_with_factors_of_zero_the_net_is_the_identity_and_learns() -> None:
    model = residual()
    fixed = remedied(model, VECTORS, ScaleBranches())
    assert torch.allclose(fixed(VECTORS), model[-1](model[0](VECTORS)))
    fixed(VECTORS).sum().backward()
    assert all(float(fixed.get_parameter(f"{block}.b_scale").grad.abs()) > 0 for block in range(1, 11))


def test_the_weight_of_a_last_norm_is_set_to_zero() -> None:
    plan = planned(residual("norm last"), VECTORS, ScaleBranches(normalized=True))
    assert [step.norm for step in plan.steps] == [f"{block}.norm" for block in range(1, 11)]
    fixed = remedied(residual("norm last"), VECTORS, ScaleBranches(normalized=True))
    assert fixed.get_parameter("3.norm.weight").count_nonzero() == 0
    assert list(fixed.state_dict()) == list(residual("norm last").state_dict())


@pytest.mark.parametrize("parts", ["norm first", "norm last", "norm after"])
def test_normalized_branches_and_sums_do_not_grow(parts: str) -> None:
    assert planned(residual(parts), VECTORS, ScaleBranches()) == Plan()


def test_few_additions_are_left_alone() -> None:
    assert planned(residual(depth=3), VECTORS, ScaleBranches()) == Plan()


@pytest.mark.parametrize(
    ("part", "reason"), [("constant", "constant factor"), ("layer scale", "a parameter"), ("zero", "starts at zero")]
)
def test_branches_that_are_small_already_are_skipped(part: str, reason: str) -> None:
    plan = planned(residual(part), VECTORS, ScaleBranches())
    assert not plan.steps
    assert all(reason in skip.reason for skip in plan.skipped)
    assert len(plan.skipped) == 10


def test_stochastic_depth_hides_neither_a_factor_nor_a_norm() -> None:
    plan = planned(residual("layer scale", "stochastic"), VECTORS, ScaleBranches())
    assert len(plan.skipped) == 10
    plan = planned(residual("norm last", "stochastic"), VECTORS, ScaleBranches(normalized=True))
    assert [step.norm for step in plan.steps] == [f"{block}.norm" for block in range(1, 11)]


def test_two_towers_are_no_residual_block() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        for name in "abcdef":
            x = F.relu(getattr(net, name)(x)) + F.relu(getattr(net, name * 2)(x))
        return x

    layers = {name * times: nn.Linear(32, 32) for name in "abcdef" for times in (1, 2)}
    assert planned(Net(forward, **layers), VECTORS, ScaleBranches()) == Plan()


def test_the_sums_of_a_recurrence_are_no_residual_branches() -> None:
    assert ScaleBranches().plan(replace(case_for(recurrent(), VECTORS), min_depth=1)).steps == ()


def test_scaled_net_is_pickled_and_copied() -> None:
    fixed = remedied(residual(), VECTORS, ScaleBranches(None))
    for twin in (copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed))):
        assert torch.equal(twin(VECTORS[:3]), fixed(VECTORS[:3]))


# activations


class Method(nn.Module):
    """A function, method or module in forward, between five layers."""

    def __init__(self, function: Callable[[Tensor], Tensor], end: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(5))
        self.out, self.function, self.end = nn.Linear(32, 4), function, end

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.function(layer(x))
        x = self.out(x)
        return self.end(x) if self.end else x


SIGMOIDS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.Sigmoid(),
    "function": torch.sigmoid,
    "method": lambda x: x.sigmoid(),
    "in place": lambda x: x.sigmoid_(),
    "exp": torch.exp,
    "hardsigmoid": lambda x: F.hardsigmoid(x, inplace=True),
    "square": lambda x: x**2,
}


@pytest.mark.parametrize("function", SIGMOIDS.values(), ids=SIGMOIDS)
def test_bad_activations_become_relu(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Method(function)
    fixed = remedied(model, VECTORS, ChangeActivation())
    expected = Method(torch.relu)
    expected.load_state_dict(model.state_dict())
    assert torch.equal(fixed(VECTORS[:5]), expected(VECTORS[:5]))
    assert gct.audit(fixed, VECTORS).chains[0].activations == ("relu",) * 5


def test_a_module_used_between_layers_and_at_the_output_stays_at_the_output() -> None:
    sigmoid = nn.Sigmoid()
    model = Method(sigmoid, sigmoid)
    assert len(planned(model, VECTORS, ChangeActivation()).steps) == 5
    output = remedied(model, VECTORS, ChangeActivation())(VECTORS)
    assert bool(((output > 0) & (output < 1)).all())


def test_behind_a_norm_a_bad_activation_is_as_bad() -> None:
    """What a norm puts right is the size of what goes into the activation, and not its slope."""
    torch.manual_seed(0)
    layers = [part for _ in range(5) for part in (nn.Linear(32, 32), nn.LayerNorm(32), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    assert [step.layer for step in planned(model, VECTORS, ChangeActivation()).steps] == ["0", "3", "6", "9", "12"]
    expected = nn.Sequential(*(nn.ReLU() if isinstance(part, nn.Sigmoid) else part for part in model))
    assert torch.equal(remedied(model, VECTORS, ChangeActivation())(VECTORS), expected(VECTORS))
    few = nn.Sequential(*layers[:9], nn.Linear(32, 4))
    assert planned(few, VECTORS, ChangeActivation()) == Plan()


def gated() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        gate = torch.sigmoid(net.d(torch.sigmoid(net.c(torch.sigmoid(net.b(torch.sigmoid(net.a(x))))))))
        return net.out(x * gate)

    return Net(forward, **{name: nn.Linear(32, 32) for name in (*"abcd", "out")})


def test_gates_are_skipped_with_the_reason() -> None:
    plan = planned(gated(), VECTORS, ChangeActivation())
    assert [step.layer for step in plan.steps] == ["a", "b", "c"]
    assert [skip.layer for skip in plan.skipped] == ["d"]
    assert "gates another value" in plan.skipped[0].reason


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU])
def test_good_activations_and_short_chains_are_left_alone(activation: Callable[[], nn.Module]) -> None:
    assert planned(mlp(activation), VECTORS, ChangeActivation()) == Plan()
    assert planned(mlp(nn.Sigmoid, 3), VECTORS, ChangeActivation()) == Plan()


def test_gelu_cannot_overwrite_its_input() -> None:
    plan = planned(Method(lambda x: x.sigmoid_()), VECTORS, ChangeActivation("gelu"))
    assert not plan.steps
    assert "overwrites" in plan.skipped[0].reason


# inputs


@pytest.mark.parametrize("scale", [255.0, 1e-3])
def test_inputs_of_another_scale_are_standardized(scale: float) -> None:
    model, x = mlp(nn.ReLU), scale * VECTORS.abs()
    (step,) = planned(model, x, ScaleInputs()).steps
    assert step.layer == "0"
    assert len(step.mean) == 1
    fixed = remedied(model, x, ScaleInputs())
    assert torch.allclose(fixed(x), model((x - x.mean()) / x.std(correction=0)), atol=1e-5)
    assert set(fixed.state_dict()) - set(model.state_dict()) == {"0_inputs.mean", "0_inputs.std"}


def test_features_of_unequal_scales_are_standardized_each_and_constants_kept_finite() -> None:
    x = VECTORS.clone()
    x[:, 0], x[:, 1] = 1e5 * x[:, 0], 3.0
    (step,) = planned(mlp(nn.ReLU), x, ScaleInputs()).steps
    assert len(step.std) == 32
    assert step.std[1] == 1.0
    assert bool(remedied(mlp(nn.ReLU), x, ScaleInputs())(x).isfinite().all())


@pytest.mark.parametrize("scale", [1.0, 0.3, 5.0])
def test_inputs_of_order_one_are_left_alone(scale: float) -> None:
    assert planned(mlp(nn.ReLU), scale * VECTORS, ScaleInputs()) == Plan()


def test_inputs_that_the_model_scales_itself_are_left_alone() -> None:
    model = Net(lambda net, x: net.body(x.flatten(1) / 255), body=mlp(nn.ReLU))
    assert planned(model, 255 * VECTORS, ScaleInputs()) == Plan()
    model = Net(lambda net, x: net.body(x.flatten(1) + 255), body=mlp(nn.ReLU))
    assert len(planned(model, VECTORS, ScaleInputs()).steps) == 1


def test_inputs_that_a_norm_scales_are_left_alone() -> None:
    norm = nn.BatchNorm1d(32)
    for first in ((norm,), (nn.Linear(32, 32), norm)):
        assert planned(nn.Sequential(*first, *mlp(nn.ReLU)), 255 * VECTORS, ScaleInputs()) == Plan()


def test_inputs_so_small_that_a_norm_does_not_scale_them_are_standardized() -> None:
    """Its ε is larger than their variance."""
    model = nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), *mlp(nn.ReLU))
    assert planned(model, 0.05 * VECTORS, ScaleInputs()) == Plan()
    assert len(planned(model, 1e-4 * VECTORS, ScaleInputs()).steps) == 1


def test_inputs_that_hardly_differ_are_standardized_whatever_norm_follows() -> None:
    """A norm behind the layer has lost what the offset drowns."""
    model = nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), *mlp(nn.ReLU))
    assert planned(model, 5 + 0.1 * VECTORS, ScaleInputs()) == Plan()
    x = 5 + 1e-4 * VECTORS
    assert len(planned(model, x, ScaleInputs()).steps) == 1
    fixed = remedied(model, x, ScaleInputs())(x)
    assert float(fixed.std(0).mean()) > 100 * float(model(x).std(0).mean())
    assert planned(model, torch.full_like(VECTORS, 5.0), ScaleInputs()) == Plan()


def test_inputs_by_keyword_and_token_ids() -> None:
    model = Net(lambda net, x: net.body(x), body=mlp(nn.ReLU))
    assert len(planned(model, 1000 * VECTORS, ScaleInputs()).steps) == 1
    words = nn.Sequential(nn.Embedding(1000, 32), *mlp(nn.ReLU))
    assert planned(words, torch.randint(1000, (4, 8)), ScaleInputs()) == Plan()


# combinations


def test_each_remedy_is_planned_for_what_the_last_one_made() -> None:
    model = mlp(nn.Sigmoid, 6)
    plan = planned(model, VECTORS, CHANGE_THEN_DRAW)
    assert [step.remedy for step in plan.steps] == ["change-activation", "reinit"]
    gains = [step.gain for step in steps_of(plan) if hasattr(step, "gain")]
    assert gains == pytest.approx([1.0] + [2**0.5] * 5, rel=1e-5)  # those of ReLU
    assert gct.probe(remedied(model, VECTORS, CHANGE_THEN_DRAW), VECTORS).verdict == "healthy"
    assert CHANGE_THEN_DRAW.name == "change-activation+reinit"
    assert len(CHANGE_THEN_DRAW.breaks) == 3


def test_remedies_with_nothing_to_do_are_left_out() -> None:
    assert [step.remedy for step in planned(mlp(nn.ReLU), VECTORS, CHANGE_THEN_DRAW).steps] == ["reinit"]
    assert planned(he(mlp(nn.ReLU)), VECTORS, CHANGE_THEN_DRAW) == Plan()


REMEDIES: list[tuple[Remedy, Callable[[], nn.Module], Tensor]] = [
    (Reinitialize(), lambda: mlp(nn.ReLU), VECTORS),
    (LayerSequentialUnitVariance(), lambda: mlp(nn.ReLU), VECTORS),
    (ScaleBranches(), residual, VECTORS),
    (ChangeActivation(), lambda: mlp(nn.Sigmoid), VECTORS),
    (ScaleInputs(), lambda: mlp(nn.ReLU), 255 * VECTORS),
    (AddShortcuts(), lambda: mlp(nn.ReLU), VECTORS),
    (CHANGE_THEN_DRAW, lambda: mlp(nn.Sigmoid), VECTORS),
]


@pytest.mark.parametrize(("remedy", "build", "x"), REMEDIES, ids=[remedy.name for remedy, *_ in REMEDIES])
def test_every_remedy_leaves_the_model_alone_and_makes_a_net_that_is_whole(
    remedy: Any, build: Callable[[], nn.Module], x: Tensor
) -> None:
    model = build()
    before, state = bits(model), torch.get_rng_state()
    case = case_for(model, x)
    captured = capture(model, case.inputs)[0]
    plan = remedy.plan(case)
    fixed = remedy.apply(captured, plan, case)
    assert torch.get_rng_state().equal(state)
    for kept in (model, captured):
        assert {name: tensor.tolist() for name, tensor in kept.state_dict().items()} == {
            name: tensor.tolist() for name, tensor in before.items()
        }
    assert set(before) <= set(fixed.state_dict())
    assert remedy.title
    assert remedy.breaks
    assert all(str(step) for step in plan.steps)
    for twin in (copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed))):
        twin.load_state_dict(fixed.state_dict())
        assert torch.equal(twin(x[:3]), fixed(x[:3]))


# cost


def test_cost_counts_parameters_time_and_memory() -> None:
    model = mlp(nn.ReLU, 4)
    inputs = for_model(model, VECTORS, None, 0)
    normed = nn.Sequential(
        *[p for layer in model for p in ((layer, nn.BatchNorm1d(32)) if isinstance(layer, nn.ReLU) else (layer,))]
    )
    before = bits(normed)
    found = cost(model, normed, inputs)
    assert found.parameters == 4 * 64
    assert found.memory_ratio is not None
    assert 1.3 < found.memory_ratio < 2.5
    assert found.step_time_ratio is not None
    assert found.step_time_ratio > 1.0
    assert all(tensor.equal(before[name]) for name, tensor in normed.state_dict().items())
    assert all(parameter.grad is None for parameter in normed.parameters())
    assert str(found).startswith("+256 parameters, step time × ")


def test_cost_of_nothing_is_nothing() -> None:
    model = mlp(nn.ReLU, 4)
    found = cost(model, copy.deepcopy(model), for_model(model, VECTORS, None, 0))
    assert (found.parameters, found.memory_ratio) == (0, 1.0)


def test_cost_keeps_the_gradients_that_were_there() -> None:
    model = mlp(nn.ReLU, 4)
    model(VECTORS).sum().backward()
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    cost(model, model, for_model(model, VECTORS, None, 0))
    assert all(parameter.grad.equal(grad) for parameter, grad in zip(model.parameters(), grads, strict=True))


def test_cost_without_a_gradient_or_without_weights_is_unknown() -> None:
    frozen = mlp(nn.ReLU, 2).requires_grad_(False)
    assert cost(frozen, frozen, for_model(frozen, VECTORS, None, 0)).step_time_ratio is None
    with torch.device("meta"):
        meta = mlp(nn.ReLU, 2)
    assert cost(meta, meta, for_model(meta, VECTORS.to("meta"), None, 0)).memory_ratio is None
