"""What every study of batch_norm.py is made of: the digits, training on them, and the tool's figures of a net."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from ground_truth import training
from ground_truth.data import data_named
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import capture
from gradcheck_tool.inputs import for_model
from gradcheck_tool.probing import probe
from gradcheck_tool.remedy.base import Case, Remedy
from gradcheck_tool.results import AfterSteps, FixResult, GradientProfile

WIDTH, BATCH, STEPS, KEPT_OUT = 64, 64, 400, 300
Net = TypeVar("Net", bound=nn.Module)
Rows = Iterator[tuple[object, ...]]
Build = Callable[[], nn.Module]
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Adam": training.OPTIMIZERS["Adam 1e-3"],
    "SGD": training.OPTIMIZERS["SGD 0.01"],
}


@dataclass(frozen=True)
class Digits:
    """Standardized digits (N, 64) and their classes: to train on, to choose an optimizer on, to test on."""

    x: Tensor
    y: Tensor
    chosen_x: Tensor
    chosen_y: Tensor
    test_x: Tensor
    test_y: Tensor


@cache
def digits() -> Digits:
    """1,047 to train on, 300 to choose on and 450 to test on."""
    data = data_named("digits")
    x, y = data.train_x, data.train_y
    return Digits(x[KEPT_OUT:], y[KEPT_OUT:], x[:KEPT_OUT], y[:KEPT_OUT], data.test_x, data.test_y)


def seeded(seed: int, build: Callable[..., Net], *arguments: object) -> Net:
    """What `build` makes of `arguments`, with the weights of `seed`."""
    torch.manual_seed(seed)
    return build(*arguments)


def correct(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent, in the mode that the net is in."""
    with torch.no_grad():
        return 100 * float((net(x).argmax(1) == y).double().mean())


def fit(
    net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, batch: int, rows: int | None = None, seed: int = 0
) -> nn.Module:
    """Trains `net` in place on the digits, the first `rows` of them; `seed` draws batches and dropout."""
    data = digits()
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net.train()
    for _ in range(steps):
        drawn = torch.randint(rows or len(data.x), (batch,), generator=order)
        loss = F.cross_entropy(net(data.x[drawn]), data.y[drawn])
        if not math.isfinite(loss.item()):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def accuracy(net: nn.Module, batch: int = BATCH, steps: int = STEPS, rows: int | None = None, seed: int = 0) -> float:
    """Test accuracy of a trained copy of `net`."""
    data, found = digits(), []
    for make in OPTIMIZERS.values():
        trained = copy.deepcopy(net)
        fit(trained, make(trained), steps, batch, rows, seed).eval()
        found.append((correct(trained, data.chosen_x, data.chosen_y), correct(trained, data.test_x, data.test_y)))
    return max(found, key=lambda pair: pair[0])[1]


def fixed(net: nn.Module, norm: str, batch: int = BATCH) -> FixResult:
    """`gct.fix` with the digits' loss, in chains of any depth."""
    x, y = digits().x[:batch], digits().y[:batch]
    return gct.fix(net, x, norm, min_depth=1, loss_fn=F.cross_entropy, targets=y)  # type: ignore[arg-type]


def probed(net: nn.Module, batch: int = BATCH) -> GradientProfile:
    """`gct.probe` with the digits' loss."""
    return gct.probe(net, digits().x[:batch], F.cross_entropy, digits().y[:batch])


def after_two_steps(result: FixResult) -> AfterSteps:
    """The fixed net after two steps on the same batch, over the same layers as it was measured over before them."""
    assert result.after is not None
    assert result.after.measured_over is not None
    x, y = (values[: result.after.batch_size] for values in (digits().x, digits().y))
    inputs, over = for_model(result.model, x, None, 0), [result.after.measured_over]
    seen = probe(result.model, inputs, loss_fn=F.cross_entropy, targets=y, steps=2, over=over).stepped
    assert seen is not None
    return seen


def ends(profile: GradientProfile) -> float:
    """Decades of the output gradient from the last weight layer to the first."""
    first, last = profile.layers[0].output_grad_norm, profile.layers[-1].output_grad_norm
    assert first is not None
    assert last
    return math.log10(first / last) if first else -math.inf


def growth(profile: GradientProfile, blocks: int) -> str:
    """What a block multiplies the gradient norm by on its way back, over the later half of the blocks."""
    norms = [layer.output_grad_norm or math.nan for layer in profile.layers][blocks // 2 : blocks]
    return f"{(norms[0] / norms[-1]) ** (1 / (len(norms) - 1)):.3f}" if len(norms) > 3 else "-"


def after(remedy: Remedy, net: nn.Module) -> nn.Module:
    """A copy of `net` that `remedy` has changed."""
    inputs = for_model(net, digits().x[:BATCH], None, 0)
    case = Case(net, inputs, read(net, inputs).structure)
    return remedy.apply(capture(net, inputs)[0], remedy.plan(case), case)
