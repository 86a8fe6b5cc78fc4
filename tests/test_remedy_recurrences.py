"""Recurrences of weights that are too large: which layers are drawn anew, at which gain, and that they learn then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from architectures import Net
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.reinitialize import Reinitialization, Reinitialize

WIDTH, STEPS = 16, 12
SEQUENCES = torch.randn(64, STEPS, 4, generator=torch.Generator().manual_seed(0))


class Elman(nn.Module):
    """h ← φ(a(x) + b(h))."""

    def __init__(self, gain: float, activation: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        nn.init.orthogonal_(self.b.weight, gain)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, 4) → (batch, 2)."""
        state = x.new_zeros(len(x), WIDTH)
        for step in range(x.shape[1]):
            state = self.activation(self.a(x[:, step]) + self.b(state))
        logits: Tensor = self.head(state)
        return logits


class Joined(nn.Module):
    """h ← relu(w(x, h))."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.w, self.head = nn.Linear(4 + WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        nn.init.orthogonal_(self.w.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, 4) → (batch, 2)."""
        state = x.new_zeros(len(x), WIDTH)
        for step in range(x.shape[1]):
            state = torch.relu(self.w(torch.cat([x[:, step], state], 1)))
        logits: Tensor = self.head(state)
        return logits


class ByHand(nn.Module):
    """h ← relu(x U + h W), of parameters."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.u, self.w = nn.Parameter(torch.randn(4, WIDTH) / 2), nn.Parameter(torch.empty(WIDTH, WIDTH))
        nn.init.orthogonal_(self.w, gain)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, 4) → (batch, 2)."""
        state = x.new_zeros(len(x), WIDTH)
        for step in range(x.shape[1]):
            state = torch.relu(x[:, step] @ self.u + state @ self.w)
        logits: Tensor = self.head(state)
        return logits


class GatedUnit(nn.Module):
    """Cho et al. 2014, each gate a layer of inputs and state together."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.z, self.r, self.c = (nn.Linear(4 + WIDTH, WIDTH) for _ in range(3))
        for layer in (self.z, self.r, self.c):
            nn.init.orthogonal_(layer.weight, gain)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, 4) → (batch, 2)."""
        state = x.new_zeros(len(x), WIDTH)
        for step in range(x.shape[1]):
            both = torch.cat([x[:, step], state], 1)
            keep, reset = torch.sigmoid(self.z(both)), torch.sigmoid(self.r(both))
            candidate = torch.tanh(self.c(torch.cat([x[:, step], reset * state], 1)))
            state = keep * state + (1 - keep) * candidate
        logits: Tensor = self.head(state)
        return logits


def drawn(model: nn.Module) -> dict[str, Reinitialization]:
    inputs = for_model(model, SEQUENCES, None, 0)
    plan = Reinitialize().plan(Case(model, inputs, read(model, inputs).structure, 1))
    return {step.layer: step for step in plan.steps if isinstance(step, Reinitialization)}


@pytest.mark.parametrize(("build", "layer"), [(Elman, "b"), (Joined, "w"), (ByHand, "w"), (GatedUnit, "c")])
def test_a_state_that_outgrows_itself_is_drawn_at_gain_one(build: Callable[[float], nn.Module], layer: str) -> None:
    steps = drawn(build(8.0))
    assert steps[layer].gain == 1.0
    assert steps[layer].why.endswith(f"at each of {STEPS} steps")
    assert "a" not in steps  # its weights are not too large


def test_large_weights_that_bring_the_inputs_are_drawn_too() -> None:
    model = Elman(4.0)
    nn.init.normal_(model.a.weight, std=3.0)
    assert {layer: step.gain for layer, step in drawn(model).items()} == {"a": 1.0, "b": 1.0}


def test_large_inputs_alone_do_not_grow_from_step_to_step() -> None:
    model = Elman(0.9)
    nn.init.normal_(model.a.weight, std=3.0)
    assert not drawn(model)


@pytest.mark.parametrize("gain", [0.1, 1.0])
def test_a_state_that_is_kept_or_forgotten_is_left_alone(gain: float) -> None:
    assert not drawn(Elman(gain))


def test_a_bounded_activation_lets_weights_be_larger() -> None:
    """The slope of a sigmoid is 1/4 at most."""
    assert not drawn(Elman(2.5, torch.sigmoid))
    assert drawn(Elman(2.5))


def test_frozen_weights_are_left_alone() -> None:
    model = Elman(4.0)
    model.b.weight.requires_grad_(False)
    inputs = for_model(model, SEQUENCES, None, 0)
    plan = Reinitialize().plan(Case(model, inputs, read(model, inputs).structure, 1))
    assert [(skip.layer, skip.reason) for skip in plan.skipped if skip.layer == "b"] == [("b", "its weight is frozen")]


def test_what_is_called_again_without_a_state_is_no_recurrence() -> None:
    """One layer for all parts of a sequence, summed."""

    def forward(net: Net, x: Tensor) -> Tensor:
        out: Tensor = net.head(sum(torch.relu(net.a(part)) for part in x.unbind(1)))
        return out

    model = Net(forward, a=nn.Linear(4, WIDTH), head=nn.Linear(WIDTH, 2))
    nn.init.normal_(model.a.weight, std=1.0)  # type: ignore[arg-type]
    assert "a" not in drawn(model)


def test_auto_heals_an_exploding_recurrence() -> None:
    model = Elman(8.0)
    targets = (SEQUENCES.sum((1, 2)) > 0).long()
    result = gct.fix(model, SEQUENCES, loss_fn=cross_entropy, targets=targets, auto=True)
    assert result.before.verdict == "exploding"
    assert result.remedy == "reinit"
    assert result.after.verdict == "healthy"
