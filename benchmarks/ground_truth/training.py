"""Training a net under a small grid of optimizers, and the label that follows.

A run has learned where it got three quarters of the way from chance to all test samples right, in evaluation mode, at
any of its checks, before its steps were spent. A cell is

- trainable: at least two of the optimizers learned;
- untrainable: none came even half of that way;
- fragile: anything between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ground_truth.blocks import Cell
from ground_truth.data import data_named
from ground_truth.nets import build

STEPS, BATCH, CHECK = 400, 64, 25
LEARNED, HALFWAY = 0.75, 0.375
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Adam 1e-3": lambda net: torch.optim.Adam(net.parameters(), 1e-3, fused=True),
    "SGD 0.1": lambda net: torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, fused=True),
    "Adam 1e-2": lambda net: torch.optim.Adam(net.parameters(), 1e-2, fused=True),
    "SGD 0.01": lambda net: torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, fused=True),
}


@dataclass(frozen=True)
class Run:
    """One training: the best share of the way from chance to all right, and the steps and seconds that it took."""

    optimizer: str
    share: float
    steps: int
    seconds: float


def train(net: nn.Module, cell: Cell, optimizer: str, steps: int = STEPS, until: float = LEARNED) -> Run:
    """Trains `net` in place, with batches drawn from the cell's seed; stops early where it has got as far as `until` or
    its loss is not finite any more."""
    data = data_named(cell.data)
    train_x, test_x = cell.inputs(data.train_x), cell.inputs(data.test_x)
    stepper = OPTIMIZERS[optimizer](net)
    order = torch.Generator().manual_seed(1000 + cell.seed)
    best, start = 0.0, time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)  # of dropout
        for step in range(1, steps + 1):
            rows = torch.randint(len(train_x), (BATCH,), generator=order)
            loss = cross_entropy(net.train()(train_x[rows]), data.train_y[rows])
            if not math.isfinite(loss.item()):
                return Run(optimizer, best, step, time.perf_counter() - start)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            if step % CHECK == 0:
                best = max(best, tested(net, cell, test_x))
                if best >= until:
                    break
    return Run(optimizer, best, step, time.perf_counter() - start)


def tested(net: nn.Module, cell: Cell, test_x: torch.Tensor) -> float:
    """The share of the way from chance to all test samples right, in evaluation mode."""
    data = data_named(cell.data)
    with torch.no_grad():
        classes = net.eval()(test_x).argmax(1)
    return data.share(float((classes == data.test_y).double().mean()))


def trained(cell: Cell, net_of: Callable[[Cell], nn.Module] = build) -> list[Run]:
    """A run under each optimizer, a fresh net each; the rest are spared where two have learned."""
    runs: list[Run] = []
    for optimizer in OPTIMIZERS:
        runs.append(train(net_of(cell), cell, optimizer))
        if sum(run.share >= LEARNED for run in runs) == 2:
            break
    return runs


def label(runs: list[Run]) -> str:
    """trainable, fragile or untrainable."""
    if sum(run.share >= LEARNED for run in runs) >= 2:
        return "trainable"
    return "untrainable" if max(run.share for run in runs) < HALFWAY else "fragile"
