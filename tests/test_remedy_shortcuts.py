"""Shortcuts around blocks: where they lead, against nets in which they are written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import Net, linears
from test_remedy_reinit import VECTORS, case_for, mlp, planned, recurrent, remedied
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import gradcheck_tool as gct
from gradcheck_tool.capturing import capture
from gradcheck_tool.remedy.combination import Combination
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.shortcuts import AddShortcuts

X = torch.randn(6, 8)
IMAGES = torch.randn(4, 3, 8, 8)
Block = Callable[[Net, int, Tensor], Tensor]


def net_of(block: Block, factor: float | None, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> Net:
    """Five times `block` and a head; with shortcuts of that factor around each, or none."""

    def forward(net: Net, x: Tensor) -> Tensor:
        for number in range(5):
            y = block(net, number, x)
            x = y if factor is None else x + factor * y
        return net.out(x)

    torch.manual_seed(0)
    layers = nn.ModuleList(wrap(layer) for layer in linears(5))
    gates = linears(5)
    wide = nn.ModuleList(nn.Linear(8, 16) for _ in range(5))
    norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(5))
    weights = nn.ParameterList(nn.Parameter(torch.randn(8, 8) / 8**0.5) for _ in range(5))
    drop, out = nn.Dropout(0.5), nn.Linear(8, 2)
    return Net(forward, f=layers, g=gates, wide=wide, norms=norms, w=weights, drop=drop, out=out)


def gated(net: Net, number: int, x: Tensor) -> Tensor:
    value, gate = net.wide[number](x).chunk(2, -1)
    return value * torch.tanh(gate)


def aliased(x: Tensor) -> Tensor:
    torch.relu_(x)
    return x


BLOCKS: dict[str, Block] = {
    "a function": lambda net, i, x: torch.tanh(net.f[i](x)),
    "in place": lambda net, i, x: F.relu(net.f[i](x), inplace=True),
    "in place, named by what it overwrites": lambda net, i, x: aliased(net.f[i](x)),
    "dropout behind it": lambda net, i, x: net.drop(torch.relu(net.f[i](x))),
    "a norm behind it": lambda net, i, x: net.norms[i](torch.relu(net.f[i](x))),
    "a norm inside it": lambda net, i, x: torch.relu(net.norms[i](net.f[i](x))),
    "halves of which one gates": gated,
    "a gated linear unit": lambda net, i, x: F.glu(net.wide[i](x)),
    "a layer that gates another": lambda net, i, x: torch.sigmoid(net.g[i](x)) * torch.tanh(net.f[i](x)),
    "a weight of the model's own": lambda net, i, x: torch.tanh(x @ net.w[i]),
    "a factor of its own": lambda net, i, x: 0.5 * torch.relu(net.f[i](x)),
}


@pytest.mark.parametrize("factor", [0.0, 0.5])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_the_net_is_the_one_with_shortcuts_written_by_hand(block: Block, factor: float) -> None:
    model, wanted = net_of(block, None), net_of(block, factor)
    case = replace(case_for(model, X), min_depth=1)
    fixed = AddShortcuts().apply(capture(model, case.inputs)[0], AddShortcuts().plan(case), case)
    factors = [name for name in fixed.state_dict() if name.endswith("_scale")]
    assert len(factors) == 5
    with torch.no_grad():
        for name in factors:
            fixed.get_parameter(name).fill_(factor)
    for training, batch in ((True, 6), (False, 3)):
        x = torch.randn(batch, 8)
        torch.manual_seed(1)
        found = fixed.train(training)(x)
        torch.manual_seed(1)
        torch.testing.assert_close(found, wanted.train(training)(x))


def test_it_starts_as_the_identity_and_its_factors_learn() -> None:
    model = mlp(nn.ReLU, 30)
    fixed = remedied(model, VECTORS, AddShortcuts())
    assert torch.equal(fixed(VECTORS), model[-1](VECTORS))
    fixed(VECTORS).square().sum().backward()
    grads = [p.grad for name, p in fixed.named_parameters() if name.endswith("_scale")]
    assert len(grads) == 30
    assert all(grad is not None and float(grad.abs()) > 0 for grad in grads[:3])
    assert set(model.state_dict()) < set(fixed.state_dict())


@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm])
def test_layers_whose_weight_is_computed_have_one_too(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = net_of(BLOCKS["a function"], None, wrap)
    fixed = remedied(model, X, AddShortcuts())
    assert fixed.get_parameter("f.4_scale").dtype == torch.float32
    torch.testing.assert_close(fixed.eval()(X), model.out(X))


def test_each_call_of_a_shared_layer_has_its_own() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        for _ in range(2):
            for layer in net.f:
                x = torch.relu(layer(x))
        return net.out(x)

    model = Net(forward, f=linears(2), out=nn.Linear(8, 2))
    fixed = remedied(model, X, AddShortcuts())
    assert sum(name.endswith(("_scale", "_scale_2")) for name in fixed.state_dict()) == 4
    torch.testing.assert_close(fixed(X), model.out(X))


def test_what_moves_values_behind_a_block_is_no_part_of_it() -> None:
    x = torch.randn(3, 8, 8)
    model = Net(turned_behind, f=linears(4), out=nn.Linear(8, 2))
    fixed = remedied(model, x, AddShortcuts())
    with torch.no_grad():
        for number in range(4):
            fixed.get_parameter(f"f.{number}_scale").fill_(0.5)
        wanted = x
        for number in range(4):
            wanted = (wanted + 0.5 * torch.relu(model.f[number](wanted))).transpose(1, 2)
        torch.testing.assert_close(fixed(x), model.out(wanted))


def skips(model: nn.Module, x: Tensor) -> dict[str, str]:
    """Why there is no shortcut, by layers; `yes` where there is one."""
    plan = AddShortcuts().plan(replace(case_for(model, x), min_depth=1))
    return {step.layer: "yes" for step in plan.steps} | {skip.layer: skip.reason for skip in plan.skipped}


def test_blocks_end_where_values_are_moved_and_none_is_around_a_change_of_shape() -> None:
    torch.manual_seed(0)
    convs = [(3, 8), (8, 8), (8, 8), (8, 16), (16, 16)]
    parts = [part for a, b in convs for part in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    parts.insert(6, nn.MaxPool2d(2))  # behind the third
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * 16, 4))
    found = skips(model, IMAGES)
    assert {layer for layer, reason in found.items() if reason == "yes"} == {"2", "4", "9"}
    assert "another shape" in found["0"]
    assert "another shape" in found["7"]
    fixed = remedied(model, IMAGES, AddShortcuts())
    around = fixed.get_parameter("9_scale")
    with torch.no_grad():
        around.fill_(0.5)
        stem = model[:2](IMAGES)
        x = model[7:9](model[6](stem))
        wanted = model[11:](x + 0.5 * model[9:11](x))
    torch.testing.assert_close(fixed(IMAGES), wanted)
    assert fixed(IMAGES[:2]).shape == (2, 4)


def second(net: Net, x: Tensor) -> Tensor:
    """A residual net: what its branches read goes around them already."""
    for number in (0, 2):
        x = x + net.f[number + 1](torch.relu(net.f[number](x)))
        x = torch.relu(x)
    return net.out(x)


def dense(net: Net, x: Tensor) -> Tensor:
    for number in range(4):
        x = torch.cat([x[:, 4:], torch.relu(net.f[number](x))[:, :4]], 1)
    return net.out(x)


def half_in_place(net: Net, x: Tensor) -> Tensor:
    for number in range(4):
        x = net.f[number](x)
        torch.relu_(x[:, :4])
    return net.out(x)


def turned(net: Net, x: Tensor) -> Tensor:
    for number in range(4):
        x = torch.relu(net.f[number](x).transpose(1, 2))
    return net.out(x)


def turned_behind(net: Net, x: Tensor) -> Tensor:
    for number in range(4):
        x = torch.relu(net.f[number](x)).transpose(1, 2)
    return net.out(x)


def watched(net: Net, x: Tensor) -> Any:
    hidden = []
    for number in range(4):
        x = torch.relu(net.f[number](x))
        hidden.append(x)
    return net.out(x), hidden


@pytest.mark.parametrize(
    ("forward", "x", "reason"),
    [
        (second, X, "goes elsewhere too"),
        (dense, X, "goes elsewhere too"),
        (half_in_place, X, "in place, under another name"),
        (turned, torch.randn(3, 8, 8), "other places"),
        (watched, X, "goes to the model's output"),
    ],
    ids=["residual", "dense", "half in place", "turned", "hidden values are outputs"],
)
def test_what_has_no_plain_block_has_none(forward: Callable[[Net, Tensor], Any], x: Tensor, reason: str) -> None:
    model = Net(forward, f=linears(4), out=nn.Linear(8, 2))
    plan = AddShortcuts().plan(replace(case_for(model, x), min_depth=1))
    assert plan.steps == ()
    assert reason in plan.skipped[0].reason


def test_a_recurrence_has_none() -> None:
    assert AddShortcuts().plan(replace(case_for(recurrent(), VECTORS), min_depth=1)).steps == ()


def test_short_chains_are_left_alone() -> None:
    assert planned(mlp(nn.ReLU, 3), VECTORS, AddShortcuts()).steps == ()


@pytest.mark.parametrize(("depth", "steps"), [(3, 0), (12, 12)])
def test_normalized_blocks_have_one_where_there_are_enough(depth: int, steps: int) -> None:
    blocks = [(nn.Linear(32, 32), nn.LayerNorm(32), nn.ReLU()) for _ in range(depth)]
    model = nn.Sequential(*(part for block in blocks for part in block), nn.Linear(32, 4))
    assert len(planned(model, VECTORS, AddShortcuts()).steps) == steps


def test_behind_new_weights_as_one_remedy() -> None:
    remedy = Combination((Reinitialize(), AddShortcuts()))
    model = mlp(nn.ReLU, 40)
    case = case_for(model, VECTORS)
    plan = remedy.plan(case)
    assert [str(step).partition(":")[0] for step in plan.steps] == ["reinit", "add-shortcuts"]
    fixed = remedy.apply(capture(model, case.inputs)[0], plan, case)
    assert gct.probe(fixed, VECTORS).verdict == "healthy"
