"""The tool on the cells that were trained: its verdicts against the labels, and nets trained after `fix`."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct
from gradcheck_tool.results import GradientProfile
from ground_truth.blocks import Cell
from ground_truth.data import data_named
from ground_truth.nets import build
from ground_truth.training import HALFWAY, LEARNED, OPTIMIZERS, Run, train

SAMPLES = 64


def batch_of(cell: Cell) -> tuple[Tensor, Tensor]:
    """The batch that the tool is shown: 64 training samples, drawn with one seed for all cells."""
    data = data_named(cell.data)
    rows = torch.randint(len(data.train_x), (SAMPLES,), generator=torch.Generator().manual_seed(5))
    return cell.inputs(data.train_x[rows]), data.train_y[rows]


def profile_of(cell: Cell, change: str = "") -> GradientProfile:
    """The probe of a cell's fresh net, with its data and its loss; under `change` the loss is multiplied by a number
    ("1e6"), the samples are in another order ("permuted") or everything is in "float64"."""
    net, (x, y) = build(cell), batch_of(cell)
    factor = float(change) if change and change[0].isdigit() else 1.0
    if change == "permuted":
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        x, y = x[order], y[order]
    if change == "float64":
        net, x = net.double(), x.double()
    return gct.probe(net, x, lambda output, target: factor * cross_entropy(output, target), y)


def autotrainer(profile: GradientProfile) -> bool:
    """Whether AUTOTRAINER's rules (Zhang et al., ICSE 2021), as published, find fault at step 0: the norm of the first
    layer's weight gradient over the last's below 1e-3 while it is below 1e-4 itself, that ratio above 70, anything that
    is not finite, or in a layer 70 % of the units dead."""
    norms = [layer.grad_norm for layer in profile.layers if layer.grad_norm is not None]
    if profile.verdict == "non-finite" or not norms or not all(map(math.isfinite, norms)):
        return True
    ratio = norms[0] / norms[-1] if norms[-1] else math.inf if norms[0] else 1.0
    dead = any((layer.dead_fraction or 0.0) >= 0.7 for layer in profile.layers)
    return (ratio < 1e-3 and norms[0] < 1e-4) or ratio > 70 or dead


@dataclass(frozen=True)
class Score:
    """Of a yes or no: how many of the untrainable were found, and how many that were found are untrainable."""

    found: int
    missed: int
    false: int
    right: int

    @property
    def recall(self) -> float:
        """found / all untrainable."""
        return self.found / max(1, self.found + self.missed)

    @property
    def precision(self) -> float:
        """found / all that were called sick."""
        return self.found / max(1, self.found + self.false)


def score(sick: list[bool], untrainable: list[bool]) -> Score:
    """Counts the four kinds."""
    pairs = list(zip(sick, untrainable, strict=True))
    return Score(*(pairs.count(kind) for kind in ((True, True), (False, True), (True, False), (False, False))))


def best_of(cell: Cell, net_of: Callable[[], nn.Module], until: float = LEARNED) -> Run:
    """The best run over the grid of optimizers, a fresh net each; the rest are spared once one has learned."""
    best: Run | None = None
    for optimizer in OPTIMIZERS:
        run = train(net_of(), cell, optimizer, until=until)
        best = run if best is None or run.share > best.share else best
        if best.share >= until:
            break
    assert best is not None
    return best


def outcome(run: Run) -> str:
    """What a label would say of the best run: learns, half or not."""
    return "learns" if run.share >= LEARNED else "half" if run.share >= HALFWAY else "not"


def in_steps(cell: Cell) -> tuple[float, float, float, float]:
    """Seconds of a training step (Adam; median of several); those of `probe --steps 0`, which trains nothing, of
    `audit --probe` and of `fix --auto` over them."""
    net, (x, y) = build(cell), batch_of(cell)
    optimizer = OPTIMIZERS["Adam 1e-3"](net)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    step()
    one = statistics.median(seconds(step) for _ in range(7))
    net = build(cell)
    start = seconds(lambda: gct.probe(net, x, cross_entropy, y, steps=0))
    audit = seconds(lambda: gct.audit(net, x, probe=True, loss_fn=cross_entropy, targets=y))
    auto = seconds(lambda: gct.fix(net, x, loss_fn=cross_entropy, targets=y, auto=True))
    return one, start / one, audit / one, auto / one
