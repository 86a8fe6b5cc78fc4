"""What a few steps of Adam on the probe's own batch show, and that they leave nothing behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct
from gradcheck_tool.chances import (
    CHECKS,
    CLEARLY_BEGUN,
    EARLY,
    ENOUGH,
    GROWING,
    LITTLE,
    LITTLE_AFTER,
    SHRINKING,
    SOUND,
    Chance,
)
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.probing.halves import FEWEST, FEWEST_HELD_OUT, Halves, are_possible, ranked_rows
from gradcheck_tool.probing.learning import RATES, Training
from gradcheck_tool.probing.least import LARGEST, least_loss
from gradcheck_tool.results import Learning

WIDTH = 24
NEVER = 9.0
NEVER_ENOUGH = Chance(CHECKS[-1], NEVER, NEVER)


def data(samples: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(samples, WIDTH, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def halves_of(inputs: Inputs, targets: Any, seed: int, holds_out: bool = False) -> Halves:
    return Halves(inputs, targets, ranked_rows(inputs), seed, holds_out)


def mlp(depth: int = 3, *, activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 4))


def explained_after(
    model: nn.Module, steps: int, rate: float, batch: tuple[Tensor, Tensor] | None = None, halves: bool = True
) -> float:
    """The same by torch's own Adam."""
    x, y = batch or data()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    drawn = halves_of(Inputs((x,)), y, 0)
    for _ in range(steps):
        optimizer.zero_grad()
        inputs, targets = drawn.draw() if halves else (Inputs((x,)), y)
        cross_entropy(model(*inputs.args), targets).backward()
        optimizer.step()
    with torch.no_grad():
        output = model(x)
        others = [output.mean(0, keepdim=True).expand_as(output), torch.zeros_like(output)]
        return 1 - float(cross_entropy(output, y) / min(cross_entropy(other, y) for other in others))


def learn(model: nn.Module, x: Tensor, loss_fn: Any, targets: Tensor, given: Chance) -> Learning | None:
    """What comes of training `model` as long as it has a chance."""
    return Training(model.train(), Inputs((x,)), loss_fn, targets, seed=0).last(given)


@pytest.mark.parametrize("samples", [pytest.param(32, id="halves"), pytest.param(FEWEST - 1, id="too few to halve")])
def test_the_share_is_that_of_a_training_by_torchs_own_adam(samples: int) -> None:
    (x, y), given = data(samples), Chance(16, NEVER, NEVER)
    learning = learn(mlp(), x, cross_entropy, y, given)
    assert learning is not None
    halves = samples >= FEWEST
    found = [explained_after(mlp(), given.steps, rate, (x, y), halves) for rate in RATES]
    assert learning.explained == pytest.approx(max(found), rel=1e-2)
    assert (learning.steps, learning.last_steps, learning.learns) == (len(RATES) * given.steps, given.steps, False)


def test_it_ends_as_soon_as_the_model_has_begun() -> None:
    x, y = data()
    profile = gct.probe(mlp(), x, cross_entropy, y)
    assert profile.verdict == "healthy"
    learning = profile.learning
    assert learning is not None
    assert learning.steps in CHECKS
    assert learning.steps <= EARLY
    assert (learning.last_steps, learning.learns, learning.overrules) == (learning.steps, True, False)
    earlier = [explained_after(mlp(), check, RATES[0]) for check in CHECKS if check < learning.steps]
    assert all(share < CLEARLY_BEGUN for share in earlier)
    assert learning.explained == pytest.approx(explained_after(mlp(), learning.steps, RATES[0]), rel=1e-2)
    assert learning.explained >= CLEARLY_BEGUN


def test_what_is_condemned_has_to_show_more() -> None:
    x, y = data()
    sound = learn(mlp(), x, cross_entropy, y, SOUND)
    condemned = learn(mlp(), x, cross_entropy, y, SHRINKING)
    assert sound is not None
    assert condemned is not None
    assert condemned.learns
    assert condemned.explained >= ENOUGH > sound.explained
    assert condemned.steps > sound.steps


@pytest.mark.parametrize("patient", [True, False])
def test_what_shows_nothing_is_given_up_where_its_figures_condemn_it(patient: bool) -> None:
    x, _ = data()
    unrelated = torch.arange(len(x)) % 2
    given = replace(NEVER_ENOUGH, patient=patient)
    learning = learn(mlp(20, activation=nn.Sigmoid), x, cross_entropy, unrelated, given)
    assert learning is not None
    each = EARLY + CHECKS[-1] if patient else LITTLE_AFTER
    assert learning.steps == each * len(RATES)
    assert patient or abs(learning.explained) < LITTLE


def test_both_rates_are_tried_for_a_moment_before_either_is_for_long() -> None:
    x, y = data()
    learning = learn(exponential(4, 64), x, cross_entropy, y, SOUND)
    assert learning is not None
    assert learning.learns
    assert (learning.steps, learning.diverged) == (EARLY + learning.last_steps, None)
    there = explained_after(exponential(4, 64), learning.last_steps, RATES[1])
    assert learning.explained == pytest.approx(there, rel=1e-2)


@pytest.mark.parametrize(
    "factor",
    [1e-6, 1e6, 2.0**-90, 2.0**90],
    ids=["a millionth", "a million times", "squares that underflow", "squares that overflow"],
)
def test_the_scale_of_the_loss_changes_nothing(factor: float) -> None:
    x, y = data()
    shares = [
        learn(mlp(), x, loss, y, NEVER_ENOUGH)
        for loss in (cross_entropy, lambda output, target: factor * cross_entropy(output, target))
    ]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[1].explained == pytest.approx(shares[0].explained, rel=1e-3)


def test_the_model_and_the_random_states_are_left_as_they_were() -> None:
    (x, y), model = data(), nn.Sequential(nn.BatchNorm1d(WIDTH), mlp(dropout=0.3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    learn(model, x, cross_entropy, y, NEVER_ENOUGH)
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
    assert "it hardly learns its own batch" in profile.reasons[0]


def clusters(samples: int) -> tuple[Tensor, Tensor]:
    """Four classes that a linear model tells apart."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(samples) % 4
    centres = torch.randn(4, WIDTH, generator=generator)
    return 2 * centres[y] + torch.randn(samples, WIDTH, generator=generator), y


def with_large_weights(depth: int = 6) -> nn.Sequential:
    net = mlp(depth)
    for parameter in net.parameters():
        parameter.data *= 10.0
    return net


def test_a_net_that_learns_its_batch_is_not_called_sick_for_large_numbers() -> None:
    net, (x, y) = with_large_weights(), data()
    assert gct.probe(net, x).verdict == "exploding"
    profile = gct.probe(net, x, cross_entropy, y)
    assert profile.verdict == "healthy"
    assert "grows" in profile.reasons[0]
    assert profile.reasons[1].startswith("yet after ")
    assert profile.learning is not None
    assert profile.learning.overrules


def test_nor_is_one_that_tells_other_samples_apart_before_its_outputs_have_come_down() -> None:
    x, y = clusters(128)
    net = with_large_weights(14)
    profile = gct.probe(net, x, cross_entropy, y)
    assert profile.verdict == "healthy"
    assert "of samples held out: it learns" in profile.reasons[1]
    assert profile.learning is not None
    assert profile.learning.held_out
    fits = learn(net, x, cross_entropy, y, replace(GROWING, then=None))
    assert fits is not None
    assert not fits.learns


def test_a_net_that_explodes_and_makes_nothing_of_other_samples_is_told() -> None:
    """Trained on new samples at every step, this net gets a third right after 400 steps, of which chance is a
    quarter."""
    x, y = data(128)
    profile = gct.probe(with_large_weights(), x, cross_entropy, y)
    assert profile.verdict == "exploding"
    assert profile.learning is not None
    assert profile.learning.steps == 4 * GROWING.steps


def test_outputs_that_are_too_large_are_looked_at_smaller() -> None:
    """A net whose loss says for long that it does harm, as its outputs are thousands."""
    net, (x, y) = mlp(4), data(256)
    for parameter in net.parameters():
        parameter.data *= 10.0
    profile = gct.probe(net, x, cross_entropy, y)
    assert profile.verdict == "healthy"
    assert profile.learning is not None
    assert profile.learning.explained > 0.5


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
    assert learn(model(), x, loss, y, NEVER_ENOUGH) is None


def test_nothing_is_trained_without_targets_or_steps() -> None:
    x, y = data()
    assert gct.probe(mlp(), x).learning is None
    assert gct.probe(mlp(), x, lambda output, _: output.square().mean()).learning is None
    assert gct.probe(mlp(), x, cross_entropy, y, steps=0).learning is None


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def exponential(depth: int, width: int = 256) -> nn.Sequential:
    torch.manual_seed(0)
    sizes = [WIDTH, *[width] * depth]
    layers = [layer for i in range(depth) for layer in (nn.Linear(sizes[i], sizes[i + 1]), Exp())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


@pytest.mark.parametrize(
    ("depth", "width", "enough", "learns"),
    [
        pytest.param(3, 256, 0.4, True, id="it does"),
        pytest.param(4, 8, 0.9, False, id="it does not"),
    ],
)
def test_what_diverges_at_one_rate_has_to_last_at_the_other(
    depth: int, width: int, enough: float, learns: bool
) -> None:
    (x, y), given = data(), replace(SOUND, enough=enough, early=enough)
    learning = learn(exponential(depth, width), x, cross_entropy, y, given)
    assert learning is not None
    assert learning.learns == learns
    assert learning.diverged is not None
    assert learning.diverged.rate == RATES[0]
    assert learning.diverged.steps > 0
    assert learning.last_steps == given.steps


def test_a_loss_that_is_infinite_where_it_is_looked_at_has_diverged() -> None:
    x, y = data()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target) + (math.inf if len(output) == len(x) else 0.0)

    learning = learn(mlp(), x, loss, y, SOUND)
    assert learning is not None
    assert not learning.learns
    assert learning.diverged is not None
    assert learning.diverged.steps == CHECKS[0]


def test_what_only_comes_down_from_large_outputs_explains_nothing() -> None:
    """The loss of this net falls from thousands to hundreds, and stays above that of outputs of zero."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 4)).train()
    x, _ = data()
    learning = learn(net, 1e4 * x, cross_entropy, torch.arange(len(x)) % 4, Chance(8, NEVER, NEVER))
    assert learning is not None
    assert learning.explained < -10


def test_outputs_of_zero_are_no_measure_where_they_are_perfect() -> None:
    """Logarithms of probabilities that are all zero have the least loss that there is."""
    x, y = data()
    net = nn.Sequential(mlp(), nn.LogSoftmax(1))
    profile = gct.probe(net, x, nn.functional.nll_loss, y)
    assert profile.verdict == "healthy"
    assert profile.learning is not None
    assert profile.learning.learns


def test_a_loss_that_cannot_take_zeros_is_left_alone() -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        if not output.any():
            raise ValueError("zeros")
        return cross_entropy(output, target)

    x, y = data()
    profile = gct.probe(mlp(), x, loss, y)
    assert profile.verdict == "healthy"
    assert profile.learning is not None


def test_a_share_that_is_not_defined_is_not_sought_for_long() -> None:
    calls = []

    def loss(output: Tensor, _: Tensor) -> Tensor:
        calls.append(output)
        return output.mean() - 9

    x, y = data()
    assert learn(mlp(), x, loss, y, SOUND) is None
    assert len(calls) < 10


def test_a_half_that_is_learned_to_the_last_digit_is_not_the_end() -> None:
    """Its gradient is exactly zero; another half has one."""
    x, y = data()
    net = mlp(1).train()
    for parameter in net[-1].parameters():
        parameter.data *= 1e3
    learning = learn(net, x, cross_entropy, y, Chance(96, 1.0, 1.0))
    assert learning is not None
    assert learning.explained == 1.0


# halves


@pytest.mark.parametrize("kind", ["numbers", "tokens that add up to the same", "complex numbers", "one number each"])
def test_halves_are_the_same_in_whatever_order_the_samples_lie(kind: str) -> None:
    x, y = data()
    generator = torch.Generator().manual_seed(1)
    if kind == "tokens that add up to the same":
        x = torch.stack([torch.randperm(20, generator=generator) for _ in x])
    elif kind == "complex numbers":
        x = torch.complex(x, -x)
    elif kind == "one number each":
        x = x[:, 20] + torch.rand(len(x), generator=generator)
    order = torch.randperm(len(x), generator=generator)
    one, other = halves_of(Inputs((x,)), y, 5), halves_of(Inputs((x[order],)), y[order], 5)
    for _ in range(4):
        (inputs, targets), (same, same_targets) = one.draw(), other.draw()
        assert len(inputs.args[0]) == len(x) // 2
        assert inputs.args[0].equal(same.args[0])
        assert targets.equal(same_targets)


def test_the_samples_of_a_half_keep_their_targets() -> None:
    x, y = data()
    drawn = halves_of(Inputs((x,)), y, 5)
    for _ in range(4):
        inputs, targets = drawn.draw()
        rows = {tuple(row): int(label) for row, label in zip(x.tolist(), y, strict=True)}
        assert [rows[tuple(row)] for row in inputs.args[0].tolist()] == targets.tolist()


def test_what_is_held_out_is_never_drawn() -> None:
    x, y = data(64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    halves = halves_of(Inputs((x,)), y, 5, holds_out=True)
    other = halves_of(Inputs((x[order],)), y[order], 5, holds_out=True)
    held_out = {*map(tuple, x[halves.held_out].tolist())}
    assert len(held_out) == FEWEST_HELD_OUT
    assert held_out == {*map(tuple, x[order][other.held_out].tolist())}
    for _ in range(8):
        drawn = halves.draw()[0].args[0]
        assert len(drawn) == (64 - FEWEST_HELD_OUT) // 2
        assert not held_out & {*map(tuple, drawn.tolist())}


def test_none_are_held_out_of_a_small_batch() -> None:
    x, y = data(48)
    halves = halves_of(Inputs((x,)), y, 5, holds_out=True)
    assert len(halves.held_out) == 0
    assert len(halves.draw()[0].args[0]) == 24


def test_every_half_is_another() -> None:
    x, y = data()
    halves = halves_of(Inputs((x,)), y, 0)
    drawn = [tuple(halves.draw()[0].args[0][:, 0].tolist()) for _ in range(8)]
    assert len(set(drawn)) == 8


@pytest.mark.parametrize(
    ("inputs", "targets", "possible"),
    [
        pytest.param((torch.zeros(32, 3),), torch.zeros(32), True, id="a row for each sample"),
        pytest.param(
            (torch.zeros(32, 3), {"mask": torch.ones(32)}), (torch.zeros(32), torch.ones(32, 2)), True, id="nested"
        ),
        pytest.param((torch.zeros(32, dtype=torch.int64),), torch.zeros(32), True, id="numbers alone"),
        pytest.param((torch.zeros(32, 3, dtype=torch.complex64),), torch.zeros(32), True, id="complex"),
        pytest.param((torch.zeros(31, 3),), torch.zeros(31), False, id="too few"),
        pytest.param((torch.zeros(32, 3), torch.zeros(2, 9)), torch.zeros(32), False, id="edges of a graph"),
        pytest.param((torch.zeros(32, 3),), torch.tensor(1.0), False, id="one target for all"),
        pytest.param((torch.zeros(32, 3),), "labels", False, id="targets without a tensor"),
        pytest.param((torch.zeros(32, 3).to_sparse(),), torch.zeros(32), False, id="sparse"),
    ],
)
def test_a_batch_is_halved_where_everything_has_a_row_for_each_sample(
    inputs: tuple[Any, ...], targets: Any, possible: bool
) -> None:
    samples = len(inputs[0])
    assert are_possible(Inputs(inputs), targets, samples) == possible
    if possible:
        half, wanted = halves_of(Inputs(inputs), targets, 0).draw()
        assert len(half.args[0]) == samples // 2
        assert wanted is not None


class OfOneSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(32, WIDTH))


def test_a_model_of_one_batch_size_learns_from_whole_batches() -> None:
    x, y = data()
    profile = gct.probe(OfOneSize(), x, cross_entropy, y)
    assert profile.verdict == "healthy"
    assert profile.learning is not None
    taken = profile.learning.steps
    assert profile.learning.explained == pytest.approx(explained_after(mlp(), taken, RATES[0], halves=False), rel=1e-2)


def test_a_net_that_fits_each_half_and_no_whole_is_told() -> None:
    """Forty blocks of layer norm tell any samples apart, and learn nothing of them that lasts."""
    torch.manual_seed(0)
    layers = [part for i in range(40) for part in (nn.Linear(WIDTH if not i else 64, 64), nn.LayerNorm(64), nn.SiLU())]
    net = nn.Sequential(*layers, nn.Linear(64, 4))
    x, _ = data(64)
    unrelated = torch.randint(4, (64,), generator=torch.Generator().manual_seed(9))
    learning = learn(net, x, cross_entropy, unrelated, Chance(64, NEVER, NEVER))
    assert learning is not None
    assert learning.explained < explained_after(net, 64, RATES[1], (x, unrelated), halves=False)


# what is no fault of a net


class Variational(nn.Module):
    """An autoencoder whose loss has a large part that nothing explains: the pixels' own entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + torch.randn_like(mean) * (log / 2).exp()), mean, log


def evidence_bound(output: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    pixels, mean, log = output
    likelihood = nn.functional.binary_cross_entropy_with_logits(pixels, x, reduction="sum") / len(x)
    return likelihood - 0.5 * (1 + log - mean.square() - log.exp()).sum(1).mean()


@pytest.mark.parametrize("samples", [16, 64, 256])
def test_a_variational_autoencoder_is_not_called_sick(samples: int) -> None:
    x = torch.tensor(load_digits().images[:samples], dtype=torch.float32).flatten(1) / 16
    torch.manual_seed(0)
    assert gct.probe(Variational(), x, evidence_bound, x).verdict == "healthy"


@pytest.mark.parametrize("depth", [0, 1], ids=["linear", "one hidden layer"])
def test_labels_that_are_mostly_noise_are_no_fault_of_the_net(depth: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, WIDTH, generator=generator)
    y = torch.where(torch.rand(256, generator=generator) < 0.3, torch.randint(4, (256,), generator=generator), 0)
    assert gct.probe(mlp(depth), x, cross_entropy, y).verdict == "healthy"


def test_the_least_loss_is_what_the_targets_leave_open() -> None:
    soft = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    entropy = float(-(soft * soft.log()).sum(1).mean())
    found = least_loss(torch.zeros(2, 3), lambda output: cross_entropy(output, soft))
    assert found == pytest.approx(entropy, abs=1e-4)
    far = torch.tensor([[1e4], [-300.0]])
    assert least_loss(torch.zeros(2, 1), lambda output: (output - far).square().mean()) == pytest.approx(0.0, abs=1e-2)


def test_a_loss_that_takes_no_such_outputs_says_what_it_can() -> None:
    chances, targets = torch.full((4, 1), 0.5), torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    found = least_loss(chances, lambda output: nn.functional.binary_cross_entropy(output, targets))
    assert 0.0 <= found <= math.log(2) + 1e-6


def test_outputs_that_are_too_large_are_not_tried() -> None:
    assert least_loss(torch.zeros(LARGEST + 1), lambda output: output.square().mean()) == math.inf
