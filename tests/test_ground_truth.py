"""The nets that were trained to check the verdict: the labels belong to the cells, and a cell can be trained again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from ground_truth.blocks import Cell  # noqa: E402
from ground_truth.cells import SEEN, UNSEEN, all_cells, group_of  # noqa: E402
from ground_truth.judging import autotrainer, profile_of  # noqa: E402
from ground_truth.nets import build  # noqa: E402
from ground_truth.training import label, train, trained  # noqa: E402

LABELS = json.loads((BENCHMARKS / "ground_truth" / "labels.json").read_text())["cells"]
CELLS = {cell.name: cell for cell in all_cells()}


def test_every_cell_has_a_label_and_every_label_a_cell() -> None:
    assert set(LABELS) == set(CELLS)


def test_there_are_enough_of_each_kind() -> None:
    counts = Counter((group_of(CELLS[name]), entry["label"]) for name, entry in LABELS.items())
    assert len(LABELS) >= 200
    assert len(UNSEEN) == len(SEEN)
    assert counts["second half", "trainable"] >= 30
    assert counts["second half", "untrainable"] >= 30
    assert sum(number for (_, kind), number in counts.items() if kind == "fragile") <= 0.15 * len(LABELS)


@pytest.mark.parametrize("name", list(CELLS)[::31])
def test_a_net_is_drawn_from_its_seed_alone(name: str) -> None:
    state = torch.get_rng_state()
    one, other = build(CELLS[name]).state_dict(), build(CELLS[name]).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", list(CELLS)[::31])
def test_norms_by_hand_change_no_weight(name: str) -> None:
    cell = CELLS[name]
    plain, normed = (
        [layer.weight for layer in build(one).modules() if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d))]
        for one in (cell, replace(cell, by_hand=True))
    )
    assert len(plain) == len(normed) > 0
    assert all(torch.equal(one, other) for one, other in zip(plain, normed, strict=True))


@pytest.mark.parametrize(
    ("activation", "init", "expected"), [("relu", "he", "trainable"), ("sigmoid", "normal0.01", "untrainable")]
)
def test_training_gives_the_label_that_anybody_would_expect(activation: str, init: str, expected: str) -> None:
    cell = Cell("test", "blobs", "mlp", 6, 16, activation, init, 0)
    assert label(trained(cell)) == expected
    assert (profile_of(cell).verdict == "healthy") == (expected == "trainable")


def test_a_run_is_the_same_again() -> None:
    cell = Cell("test", "circles", "mlp", 2, 16, "tanh", "glorot", 3, dropout=0.1)
    runs = [train(build(cell), cell, "Adam 1e-2", steps=50, until=1.0) for _ in range(2)]
    assert runs[0].share == runs[1].share


def test_the_rules_of_autotrainer() -> None:
    assert autotrainer(profile_of(Cell("test", "digits", "mlp", 12, 16, "sigmoid", "default", 0)))
    assert not autotrainer(profile_of(Cell("test", "digits", "mlp", 3, 32, "relu", "he", 0)))
