"""The studies of batch norm: what they measure with is right, each gives rows under its head, and the page has each."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples")]

from batch_norm_studies import claims, elsewhere, measuring, plain  # noqa: E402
from batch_norm_studies.nets import LATENT, TokenBatchNorm, Transformer, discriminator, frechet, generator  # noqa: E402
from nets_for_theory import mlp  # noqa: E402

SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "batch_norm.py"))
STUDIES: dict[str, Callable[[], Any]] = SCRIPT["STUDIES"]
PAGE = (ROOT / "docs" / "batch_norm.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_gives_rows_as_long_as_its_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (measuring, plain, elsewhere, claims):
        monkeypatch.setattr(module, "fit", lambda net, *_, **__: net)  # untrained nets have the same rows
    monkeypatch.setattr(elsewhere, "adversarial", lambda *_: None)
    monkeypatch.setattr(elsewhere, "STEPS", 1)
    head, *rows = islice(STUDIES[name](), 3)
    assert rows
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_says_how_to_repeat(name: str) -> None:
    assert f"`python benchmarks/batch_norm.py {name}`" in PAGE


def test_the_page_names_no_study_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT["main"](["no-such-study"]) == 2
    told = capsys.readouterr().out
    assert all(name in told for name in STUDIES)
    named = {line.split("`")[0] for line in PAGE.split("benchmarks/batch_norm.py ")[1:]}
    assert named <= {*STUDIES, "STUDY"}


def test_the_parts_of_the_digits_do_not_overlap() -> None:
    data = measuring.digits()
    parts = (data.x, data.chosen_x, data.test_x)
    assert [len(part) for part in parts] == [1047, 300, 450]
    # a few digits are in scikit-learn's set twice
    distinct = len(torch.unique(torch.cat(parts), dim=0))
    assert distinct >= sum(len(torch.unique(part, dim=0)) for part in parts) - 5


def test_a_training_is_the_same_again_and_leaves_the_net() -> None:
    net = measuring.seeded(0, mlp, nn.ReLU, 2, 64, nn.BatchNorm1d)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first, again = (measuring.accuracy(net, steps=40) for _ in range(2))
    assert first == again > 60
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_growth_is_that_of_a_block() -> None:
    net = measuring.seeded(0, mlp, nn.ReLU, 12, 64, nn.BatchNorm1d)
    assert 1.15 < float(measuring.growth(measuring.probed(net), 12)) < 1.3  # π/(π−1) at an infinite batch: 1.211


def test_the_distance_of_samples_to_themselves_is_zero_and_of_shifted_ones_the_square_of_the_shift() -> None:
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + 2) == pytest.approx(20, rel=1e-6)


def test_the_norm_of_tokens_takes_channels_from_the_last_axis() -> None:
    x = torch.randn(6, 8, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 1
    out = TokenBatchNorm(4)(x).flatten(0, 1)
    assert torch.allclose(out.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(out.var(0, correction=0), torch.ones(4), atol=1e-3)


@pytest.mark.parametrize(("norm", "leaks"), [(nn.LayerNorm, False), (TokenBatchNorm, True)])
def test_in_training_batch_norm_lets_a_causal_net_see_what_comes(norm: type[nn.Module], leaks: bool) -> None:
    net = measuring.seeded(0, Transformer, 2, 16, norm, True)
    x = torch.randn(4, 64, requires_grad=True)
    (grad,) = torch.autograd.grad(net(x)[0, 0].sum(), x)
    assert bool(grad[0, 8:].any()) is leaks
    assert bool(grad[1:].any()) is leaks


def test_generator_and_discriminator_fit_each_other() -> None:
    images = generator(nn.BatchNorm2d)(torch.randn(3, LATENT))
    assert images.shape == (3, 1, 8, 8)
    assert discriminator(nn.BatchNorm2d)(images).shape == (3,)


def test_dropout_in_front_of_a_norm_shrinks_the_variance_in_evaluation() -> None:
    shifts = []
    for first in (None, True):
        net = measuring.seeded(0, plain.dropping, nn.BatchNorm1d, first)
        measuring.fit(net, torch.optim.SGD(net.parameters(), 0.0), 60, 64)  # statistics alone
        shifts.append(plain.variance_shift(net))
    assert shifts[0] == pytest.approx(1, abs=0.1)
    assert shifts[1] < 0.8


def test_every_hand_written_norm_is_replaced() -> None:
    net = claims.with_nn(claims.Handwritten())
    norms = [module for module in net.modules() if "BatchNorm" in type(module).__name__]
    assert len(norms) == 4
    assert {type(norm) for norm in norms} == {nn.BatchNorm1d}
