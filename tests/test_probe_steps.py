"""What the probe sees after a few optimizer steps, and of the differences between samples."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.probing.samples import effective_rank, sample_figures

WIDTH = 32


def batch(samples: int = 16) -> Tensor:
    return torch.randn(samples, WIDTH, generator=torch.Generator().manual_seed(0))


def plain(depth: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(WIDTH, WIDTH), activation())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def test_the_spread_over_samples_is_free_of_scale() -> None:
    x = batch() + 3.0
    found, larger = sample_figures(x), sample_figures(x * 1e6)
    assert found is not None
    assert larger is not None
    apart = (x - x.mean(0)).norm() / x.norm()
    assert found.spread == pytest.approx(float(apart), rel=1e-5)
    assert found.scale == pytest.approx(float(x.square().mean().sqrt()), rel=1e-5)
    assert larger.spread == pytest.approx(found.spread, rel=1e-5)


@pytest.mark.parametrize(
    "values",
    [torch.zeros(4, 3), torch.full((4, 3), math.inf), torch.ones(1, 3), torch.ones(4), torch.ones(4, 3).long()],
    ids=["zeros", "infinities", "one sample", "no samples", "whole numbers"],
)
def test_what_has_no_spread(values: Tensor) -> None:
    assert sample_figures(values) is None
    assert effective_rank(values) is None


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_rank_of_so_many_equal_directions(rank: int) -> None:
    rows = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) * 1.0)[0]
    rows = rows - rows.mean(0)
    directions = torch.linalg.qr(rows)[0][:, :rank]
    found = effective_rank(directions @ torch.randn(rank, 40, generator=torch.Generator().manual_seed(1)).sign())
    assert found is not None
    assert found <= rank + 1e-6
    assert effective_rank(directions @ torch.eye(rank, 40)) == pytest.approx(
        float(rank), rel=0.2
    )  # but for the mean over samples, which is taken away


def test_the_steps_are_undone() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))
    before = copy.deepcopy(model.state_dict())
    versions = [parameter._version for parameter in model.parameters()]
    state = torch.get_rng_state()
    profile = gct.probe(model, batch(), steps=5)
    assert profile.steps == 5
    assert profile.stepped is not None
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [parameter._version for parameter in model.parameters()] == versions
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_is_that_of_a_sign_descent() -> None:
    """Against torch's Adam, whose first step it is, without the loss's scale."""
    model, x = plain(2), batch()
    y = torch.arange(16) % 10
    profile = gct.probe(model, x, nn.functional.cross_entropy, y, steps=1)
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-3)
    nn.functional.cross_entropy(twin(x), y).backward()
    optimizer.step()
    expected = float(nn.functional.cross_entropy(twin(x), y).detach())
    assert profile.stepped is not None
    assert profile.stepped.loss == pytest.approx(expected, rel=1e-3)


def test_without_steps_there_is_no_second_look() -> None:
    profile = gct.probe(plain(2), batch(), steps=0)
    assert (profile.steps, profile.stepped) == (0, None)


def test_a_signal_too_small_for_the_biases_shows_after_the_steps() -> None:
    model = plain(6, nn.ReLU)
    for layer in model[::2]:
        nn.init.normal_(layer.weight, std=0.1 / WIDTH**0.5)
        nn.init.zeros_(layer.bias)
    start, stepped = gct.probe(model, batch(), steps=0), gct.probe(model, batch())
    assert (start.layers[-1].input_spread or 0.0) > 0.1
    assert stepped.stepped is not None
    assert (stepped.stepped.last_spread or 0.0) < 1e-2


def test_samples_that_become_all_alike_are_a_verdict() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x) + 1e6

    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Shifted(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 4))
    model[2].weight.data.mul_(1e-6)
    profile = gct.probe(model, batch())
    assert profile.verdict in ("vanishing", "exploding")
    assert any("alike" in reason or "root mean square" in reason for reason in profile.reasons)


def test_a_loss_that_breaks_in_the_first_step_is_found() -> None:
    class Root(nn.Module):
        """√w·x, with w just above zero: one step takes it below."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([1e-4]))
            self.a, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(torch.relu(self.a(x))) * torch.sqrt(self.scale)
            return out

    torch.manual_seed(0)
    model = Root()
    profile = gct.probe(model, batch(), lambda output, _: output.square().sum())
    assert profile.verdict == "non-finite"
    assert profile.reasons[0].startswith("after 1 step the first value that is not finite is")


def test_the_gradient_of_the_first_pass_serves_the_first_step() -> None:
    passes = []

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            passes.append(x.device.type)
            return self.body(x)

    gct.probe(Counted(), torch.randn(4, 8), steps=2)
    assert passes.count("cpu") == 3  # as it stands, before the second step, after it
