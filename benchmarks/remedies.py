"""What the remedies do for nets that do not learn: `python benchmarks/remedies.py [TEXT …]` (needs scikit-learn).

Small sick nets, each trained on scikit-learn's digits before and after each remedy: test accuracy in percent after
200 steps of 64. A dash: the remedy has nothing to do there. TEXT narrows by the name of the net; `--adam` or `--sgd`
takes one of the two optimizers; `--variants` adds the choices that are not the default. One thread, a few minutes.
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.activations import ChangeActivation
from gradcheck_tool.remedy.base import Case, Remedy
from gradcheck_tool.remedy.branches import ScaleBranches
from gradcheck_tool.remedy.combination import Combination, Stage
from gradcheck_tool.remedy.lsuv import LayerSequentialUnitVariance
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.scale_inputs import ScaleInputs
from gradcheck_tool.remedy.shortcuts import AddShortcuts

WIDTH, CLASSES, BATCH, STEPS, LEARNED = 64, 10, 64, 200, 80.0
OPTIMIZERS: dict[str, Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
}
REMEDIES: dict[str, Remedy] = {
    "reinit": Reinitialize(),
    "lsuv": LayerSequentialUnitVariance(),
    "relu+reinit": Combination((ChangeActivation("relu"), Reinitialize())),
    "inputs": ScaleInputs(),
    "inputs+reinit": Combination((ScaleInputs(), Reinitialize())),
    "shortcuts": AddShortcuts(),
    "reinit+shortcuts": Combination((Reinitialize(), AddShortcuts())),
    "branches 0": ScaleBranches(),
    "branches 1/√n": ScaleBranches(None),
}
VARIANTS: dict[str, Remedy] = {
    "normal": Reinitialize("normal"),
    "lsuv, centred": LayerSequentialUnitVariance(centre=True),
    "gelu+reinit": Combination((ChangeActivation("gelu"), Reinitialize())),
}


@dataclass(frozen=True)
class Net:
    """A net, and what its inputs, 0 … 1, are multiplied by."""

    name: str
    build: Callable[[], nn.Module]
    scale: float = 1.0
    image: bool = False


class Exp(nn.Module):
    """The exponential function, which torch has no module for."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x.exp()


class Residual(nn.Module):
    """x + W₂ relu(W₁ x), or the same with convolutions."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = layer(), layer()

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of `x`."""
        return x + self.second(torch.relu(self.first(x)))


class Recurrence(nn.Module):
    """h ← relu(a(x_t) + b(h)) over the rows of an 8×8 image, each in four parts: 32 steps."""

    def __init__(self, draw: Callable[[Tensor], object], width: int = 16) -> None:
        """`draw` fills the weights of the states; the others are in PyTorch's initialization."""
        super().__init__()
        self.width = width
        self.inputs, self.state = nn.Linear(2, width), nn.Linear(width, width)
        self.head = nn.Linear(width, CLASSES)
        draw(self.state.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 64) → (batch, classes)."""
        state = x.new_zeros(len(x), self.width)
        for part in x.unflatten(1, (32, 2)).unbind(1):
            state = torch.relu(self.inputs(part) + self.state(state))
        logits: Tensor = self.head(state)
        return logits


def mlp(
    depth: int, activation: type[nn.Module], width: int = WIDTH, norm: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    """`depth` blocks, with a norm before their activation if one is given, and a head, in PyTorch's own
    initialization."""
    sizes = [64, *[width] * depth]
    blocks = [(nn.Linear(n, m), *([norm(m)] if norm else []), activation()) for n, m in pairwise(sizes)]
    return nn.Sequential(*[part for block in blocks for part in block], nn.Linear(width, CLASSES))


def conv(depth: int, activation: type[nn.Module], channels: int = 8) -> nn.Sequential:
    """`depth` 3×3 convolutions on 8×8 images, global pooling and a head."""
    sizes = [1, *[channels] * depth]
    blocks = [(nn.Conv2d(n, m, 3, padding=1), activation()) for n, m in pairwise(sizes)]
    tail = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, CLASSES))
    return nn.Sequential(*[part for block in blocks for part in block], *tail)


def residual(depth: int, image: bool = False) -> nn.Sequential:
    """`depth` unnormalized residual blocks in He's initialization."""
    if image:
        blocks = [Residual(lambda: nn.Conv2d(8, 8, 3, padding=1)) for _ in range(depth)]
        ends = nn.Conv2d(1, 8, 3, padding=1), (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES))
        return he(nn.Sequential(ends[0], *blocks, *ends[1]))
    blocks = [Residual(lambda: nn.Linear(WIDTH, WIDTH)) for _ in range(depth)]
    return he(nn.Sequential(nn.Linear(64, WIDTH), *blocks, nn.Linear(WIDTH, CLASSES)))


def weights(model: nn.Sequential, change: Callable[[Tensor], object], biases: float | None = 0.0) -> nn.Sequential:
    """`model` with `change` called on every weight, and biases filled where given."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                change(layer.weight)
                if biases is not None and layer.bias is not None:
                    layer.bias.fill_(biases)
    return model


def he(model: nn.Sequential) -> nn.Sequential:
    """He's initialization, zero biases."""
    return weights(model, nn.init.kaiming_normal_)


def scaled(model: nn.Sequential, factor: float) -> nn.Sequential:
    """He's initialization times a factor, the head left at PyTorch's."""
    head = copy.deepcopy(model[-1])
    he(model)
    weights(model, lambda weight: weight.mul_(factor))
    model[-1] = head
    return model


def almost_constant(weight: Tensor) -> None:
    """All weights 0.01, but for a thousandth of that."""
    nn.init.normal_(weight, 0.01, 1e-5)


def he_times_3(weight: Tensor) -> None:
    """Weights that a state outgrows in a few steps."""
    nn.init.kaiming_normal_(weight)
    with torch.no_grad():
        weight.mul_(3.0)


NETS = (
    Net("healthy: 6 ReLU", lambda: he(mlp(6, nn.ReLU))),
    Net("healthy: 3 tanh", lambda: mlp(3, nn.Tanh)),
    Net("5 sigmoid", lambda: mlp(5, nn.Sigmoid)),
    Net("10 sigmoid", lambda: mlp(10, nn.Sigmoid)),
    Net("20 sigmoid", lambda: mlp(20, nn.Sigmoid)),
    Net("6 exp", lambda: mlp(6, Exp)),
    Net("6 exp, He", lambda: he(mlp(6, Exp))),
    Net("8 hardsigmoid", lambda: mlp(8, nn.Hardsigmoid)),
    Net("8 tanhshrink", lambda: mlp(8, nn.Tanhshrink)),
    Net("10 softplus", lambda: mlp(10, nn.Softplus)),
    Net("20 ReLU", lambda: mlp(20, nn.ReLU)),
    Net("50 ReLU", lambda: mlp(50, nn.ReLU)),
    Net("50 GELU", lambda: mlp(50, nn.GELU)),
    Net("10 ReLU, He × 0.1", lambda: scaled(mlp(10, nn.ReLU), 0.1)),
    Net("10 ReLU, He × 5", lambda: scaled(mlp(10, nn.ReLU), 5.0)),
    Net("6 ReLU, std 1", lambda: weights(mlp(6, nn.ReLU), nn.init.normal_)),
    Net("20 tanh", lambda: mlp(20, nn.Tanh)),
    Net("10 tanh, He × 10", lambda: scaled(mlp(10, nn.Tanh), 10.0)),
    Net("20 GELU", lambda: mlp(20, nn.GELU)),
    Net("20 SiLU", lambda: mlp(20, nn.SiLU)),
    Net("20 ELU", lambda: mlp(20, nn.ELU)),
    Net("5 ReLU, constant 0.01", lambda: weights(mlp(5, nn.ReLU), almost_constant)),
    Net("5 ReLU, all equal", lambda: weights(mlp(5, nn.ReLU), lambda weight: weight.fill_(0.01))),
    Net("5 ReLU, bias −5", lambda: weights(mlp(5, nn.ReLU), nn.init.kaiming_normal_, -5.0)),
    Net("2 ReLU, bias −5", lambda: weights(mlp(2, nn.ReLU), nn.init.kaiming_normal_, -5.0)),
    Net("30 narrow ReLU, 16 wide", lambda: mlp(30, nn.ReLU, 16)),
    Net("60 ReLU behind batch norm", lambda: mlp(60, nn.ReLU, norm=nn.BatchNorm1d)),
    Net("60 ReLU behind layer norm", lambda: mlp(60, nn.ReLU, norm=nn.LayerNorm)),
    Net("15 ReLU convolutions", lambda: conv(15, nn.ReLU), image=True),
    Net("8 sigmoid convolutions", lambda: conv(8, nn.Sigmoid), image=True),
    Net("15 GELU convolutions", lambda: conv(15, nn.GELU), image=True),
    Net("32 steps, He × 3", lambda: Recurrence(he_times_3)),
    Net("32 steps, orthogonal × √2", lambda: Recurrence(lambda weight: nn.init.orthogonal_(weight, 2**0.5))),
    Net("20 unnormalized residual", lambda: residual(20)),
    Net("12 unnormalized residual conv", lambda: residual(12, True), image=True),
    Net("6 ReLU, He, inputs × 255", lambda: he(mlp(6, nn.ReLU)), 255.0),
    Net("6 ReLU, He, inputs × 25500", lambda: he(mlp(6, nn.ReLU)), 25500.0),
    Net("6 ReLU, He, inputs / 1000", lambda: he(mlp(6, nn.ReLU)), 0.001),
    Net("12 ReLU, inputs × 255", lambda: mlp(12, nn.ReLU), 255.0),
    Net("4 tanh, inputs × 25500", lambda: mlp(4, nn.Tanh), 25500.0),
)


@lru_cache(maxsize=1)
def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """1797 images of 64 values, 0 … 16, and their labels."""
    loaded = load_digits()
    return loaded.data, loaded.target


def data(scale: float, image: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train on, then 500 to test on. Inputs of scale 1 are standardized as a whole."""
    images, labels = digits()
    x = torch.from_numpy(images).float() / 16.0
    x = (x - x.mean()) / x.std() if scale == 1.0 else x * scale
    x = x.reshape(-1, 1, 8, 8) if image else x
    y = torch.from_numpy(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[500:]], y[order[500:]], x[order[:500]], y[order[:500]]


def trained(model: nn.Module, net: Net, optimizer: str) -> float:
    """Test accuracy in percent after training a copy of `model`; the batches are the same each time."""
    model = copy.deepcopy(model).train()
    x, y, test_x, test_y = data(net.scale, net.image)
    step = OPTIMIZERS[optimizer](model.parameters())
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        step.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        step.step()
    with torch.no_grad():
        return 100.0 * float((model.eval()(test_x).argmax(1) == test_y).float().mean())


def healed(net: Net, remedies: Mapping[str, Remedy]) -> Iterator[tuple[str, CapturedModule | None]]:
    """The net as it is, then after each remedy; None where that has nothing to do."""
    torch.manual_seed(0)
    model = net.build()
    inputs = for_model(model, data(net.scale, net.image)[0][:BATCH], None, 0)
    case = Case(model, inputs, read(model, inputs).structure)
    captured = capture(model, inputs)[0]
    yield "before", captured
    for name, remedy in remedies.items():
        plan = remedy.plan(case)
        # a combination of which the first part has nothing to do is the second, which has its own column
        stages = [step.remedy for step in plan.steps if isinstance(step, Stage)]
        has_steps = remedy.remedies[0].name in stages if isinstance(remedy, Combination) else bool(plan.steps)
        yield name, remedy.apply(captured, plan, case) if has_steps else None


def main(arguments: list[str]) -> int:
    """Print a row for each net and optimizer, then how many of the sick nets each remedy heals."""
    torch.set_num_threads(1)
    chosen = [name for name in OPTIMIZERS if f"--{name}" in arguments] or list(OPTIMIZERS)
    remedies = REMEDIES | (VARIANTS if "--variants" in arguments else {})
    wanted = [text for text in arguments if not text.startswith("--")]
    widths = [30, 5, 6, *(max(len(name), 5) for name in remedies)]
    print(line(("net", "", "before", *remedies), widths), flush=True)
    scores: dict[str, list[float]] = {name: [] for name in ("before", *remedies)}
    for net in NETS:
        if wanted and not any(text in net.name for text in wanted):
            continue
        made = dict(healed(net, remedies))
        for optimizer in chosen:
            row = {name: trained(model, net, optimizer) for name, model in made.items() if model is not None}
            print(
                line((net.name, optimizer, *(f"{row[n]:.0f}" if n in row else "–" for n in made)), widths), flush=True
            )
            if not net.name.startswith("healthy"):
                for name, score in row.items():
                    scores[name].append(score)
    for name, found in scores.items():
        if not found:
            continue
        learned = sum(score >= LEARNED for score in found)
        print(f"{name}: {learned} of {len(found)} reach {LEARNED:.0f} %, median {statistics.median(found):.0f}")
    return 0


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in columns; the first is to the left."""
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *rest])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
