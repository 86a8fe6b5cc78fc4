"""What a few steps of Adam on the probe's own batch show, and that they leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct
from gradcheck_tool.chances import CHECKS, CLEARLY_BEGUN, LITTLE, LITTLE_AFTER
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.probing.learning import RATES, learn

WIDTH = 24


def data(samples: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(samples, WIDTH, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def mlp(depth: int = 3, *, activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 4))


def explained_after(model: nn.Module, steps: int, rate: float) -> float:
    """The same by torch's own Adam."""
    x, y = data()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        output = model(x)
        common = output.mean(0, keepdim=True).expand_as(output)
        return 1 - float(cross_entropy(output, y) / cross_entropy(common, y))


def test_the_share_is_that_of_a_training_by_torchs_own_adam() -> None:
    (x, y), found = data(), []
    for rate in RATES:
        model = mlp().train()
        learning = learn(model, Inputs((x,)), cross_entropy, y, 0, 9.0, rates=[rate])
        assert learning is not None
        assert learning.steps == CHECKS[-1]
        assert learning.explained == pytest.approx(explained_after(mlp(), CHECKS[-1], rate), rel=1e-2)
        found.append(learning.explained)
    both = learn(mlp().train(), Inputs((x,)), cross_entropy, y, 0, 9.0)
    assert both is not None
    assert (both.explained, both.steps) == (max(found), 2 * CHECKS[-1])


def test_it_ends_as_soon_as_the_model_has_begun() -> None:
    x, y = data()
    profile = gct.probe(mlp(), x, cross_entropy, y)
    assert profile.verdict == "healthy"
    assert profile.learning is not None
    assert profile.learning.steps in CHECKS
    steps = profile.learning.steps
    assert (profile.learning.last_steps, profile.learning.overrules) == (steps, False)
    earlier = [explained_after(mlp(), check, RATES[0]) for check in CHECKS if check < steps]
    assert all(share < CLEARLY_BEGUN for share in earlier)
    assert profile.learning.explained == pytest.approx(explained_after(mlp(), steps, RATES[0]), rel=1e-2)
    assert profile.learning.explained >= CLEARLY_BEGUN


def test_what_shows_nothing_is_given_up() -> None:
    x, _ = data()
    unrelated = torch.arange(len(x)) % 2
    learning = learn(mlp(20, activation=nn.Sigmoid).train(), Inputs((x,)), cross_entropy, unrelated, 0, 9.0)
    assert learning is not None
    assert (learning.steps, learning.last_steps) == (LITTLE_AFTER * len(RATES), LITTLE_AFTER)
    assert abs(learning.explained) < LITTLE


@pytest.mark.parametrize(
    "factor",
    [1e-6, 1e6, 2.0**-90, 2.0**90],
    ids=["a millionth", "a million times", "squares that underflow", "squares that overflow"],
)
def test_the_scale_of_the_loss_changes_nothing(factor: float) -> None:
    x, y = data()
    shares = [
        learn(mlp().train(), Inputs((x,)), loss, y, 0, 9.0)
        for loss in (cross_entropy, lambda output, target: factor * cross_entropy(output, target))
    ]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[1].explained == pytest.approx(shares[0].explained, rel=1e-3)


def test_the_model_and_the_random_states_are_left_as_they_were() -> None:
    (x, y), model = data(), nn.Sequential(nn.BatchNorm1d(WIDTH), mlp(dropout=0.3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    learn(model.train(), Inputs((x,)), cross_entropy, y, 0, 9.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_a_net_whose_noise_drowns_its_inputs_is_told() -> None:
    """The gradients of a saturated net with much dropout look well in every layer."""
    torch.manual_seed(0)
    net = mlp(12, activation=nn.SELU, dropout=0.6)
    x, y = data()
    profile = gct.probe(net, x, cross_entropy, y)
    assert gct.probe(net, x).verdict == "healthy"
    assert profile.verdict == "vanishing"
    assert "it does not begin to learn" in profile.reasons[0]


def test_a_net_that_learns_its_batch_is_not_called_sick_for_large_numbers() -> None:
    net = mlp(8)
    for parameter in net.parameters():
        parameter.data *= 30.0
    x, y = data()
    assert gct.probe(net, x).verdict == "exploding"
    profile = gct.probe(net, x, cross_entropy, y)
    assert profile.verdict == "healthy"
    assert "grows" in profile.reasons[0]
    assert profile.reasons[1].startswith("yet after ")
    assert profile.learning is not None
    assert profile.learning.overrules


def test_outputs_that_should_not_differ_are_no_fault() -> None:
    """The best that this net can do is zero for every sample; what it is given cannot help it."""
    x, _ = data()
    profile = gct.probe(mlp(), x, nn.functional.mse_loss, torch.zeros(len(x), 4))
    assert profile.verdict == "healthy"


class Scored(nn.Module):
    """Returns its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).square().mean()


def own(output: Any, _: Any) -> Any:
    return output


@pytest.mark.parametrize(
    ("model", "loss", "samples"),
    [
        pytest.param(Scored, own, 8, id="no outputs per sample"),
        pytest.param(mlp, lambda output, _: output.mean() - 9, 8, id="a negative loss"),
        pytest.param(mlp, lambda output, _: output.mean() * float("nan"), 8, id="a loss that is no number"),
        pytest.param(mlp, cross_entropy, 1, id="one sample"),
    ],
)
def test_nothing_is_said_where_nothing_can_be_seen(model: Callable[[], nn.Module], loss: Any, samples: int) -> None:
    x, y = data(samples)
    assert learn(model().train(), Inputs((x,)), loss, y, 0, 9.0) is None


def test_nothing_is_trained_without_targets_or_steps() -> None:
    x, y = data()
    assert gct.probe(mlp(), x).learning is None
    assert gct.probe(mlp(), x, lambda output, _: output.square().mean()).learning is None
    assert gct.probe(mlp(), x, cross_entropy, y, steps=0).learning is None
