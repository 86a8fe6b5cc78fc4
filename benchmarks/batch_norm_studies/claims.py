"""What is said of batch norm and is in no other study: learning rates, initial weights, speed, the shallow net of the
article, the batch norm written by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from functools import partial

import torch
from article_bn_net import build_model
from handwritten_batchnorm import BatchNorm1d as HandwrittenNorm
from handwritten_batchnorm import Net as Handwritten
from nets_for_theory import he, mlp
from torch import Tensor, nn

from batch_norm_studies.measuring import BATCH, WIDTH, Build, Rows, correct, digits, ends, fit, probed, seeded
from batch_norm_studies.price import article

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LEARNED = 90.0


def claims() -> Rows:
    """the claims that no other study measures, each with a net and with what it is held against: accuracies in percent,
    after 200 steps the mean of 2 seeds, of the article's net of 3"""
    yield "claim", "measured", "without", "He instead", "with batch norm"
    plain = partial(mlp, nn.ReLU, 10, WIDTH)
    trio: tuple[Build, ...] = (plain, lambda: he(plain()), partial(plain, nn.BatchNorm1d))
    reached = [{rate: over_seeds(build, rate) for rate in RATES} for build in trio]
    yield "higher learning rates", "10 × ReLU, SGD: rates that reach 90 %", *map(working, reached)
    best = [max(scores, key=lambda rate: scores[rate]) for scores in reached]
    yield (
        "higher learning rates",
        "the best rate, and its accuracy",
        *(f"{r:g}: {s[r]:.0f}" for r, s in zip(best, reached, strict=True)),
    )
    quick = [steps_to_learn(build, rate) for build, rate in zip(trio, best, strict=True)]
    yield "faster", "the same: steps to 90 % at the best rate", *quick
    for factor in (0.1, 1.0, 10.0):
        made = [partial(scaled, build, factor) for build in trio]
        found = [(ends(probed(seeded(0, build))), over_seeds(build, 0.03)) for build in made]
        shown = (f"{decades:.2f}; {score:.0f}" for decades, score in found)
        yield "careless initial weights", f"10 × ReLU, weights × {factor:g}, SGD 0.03: decades; %", *shown
    yield from shallow()
    yield from by_hand()


def over_seeds(build: Build, rate: float, seeds: Iterable[int] = range(2), steps: int = 200) -> float:
    """Mean test accuracy in percent after SGD with momentum at `rate`."""
    found = []
    for seed in seeds:
        net = seeded(seed, build)
        fit(net, torch.optim.SGD(net.parameters(), rate, 0.9, fused=True), steps, BATCH, seed=seed).eval()
        found.append(correct(net, digits().test_x, digits().test_y))
    return statistics.mean(found)


def working(scores: dict[float, float]) -> str:
    """The largest rate that reaches 90 %."""
    good = [rate for rate, score in scores.items() if score >= LEARNED]
    return f"up to {max(good):g}" if good else "none"


def steps_to_learn(build: Build, rate: float, most: int = 400) -> str:
    """The first check, every 10 steps, at which the net has 90 % of the test digits right."""
    net = seeded(0, build)
    optimizer = torch.optim.SGD(net.parameters(), rate, 0.9, fused=True)
    for number in range(1, most // 10 + 1):
        fit(net, optimizer, 10, BATCH, seed=number).eval()
        if correct(net, digits().test_x, digits().test_y) >= LEARNED:
            return str(10 * number)
    return f"not in {most}"


def scaled(build: Build, factor: float) -> nn.Module:
    """A net with the weights of every Linear multiplied."""
    net = build()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(factor)
    return net


def shallow() -> Rows:
    """The article's net with and without its norm, on digits of 28×28."""
    scores = []
    for build in (lambda: article(None), lambda: he(article(None)), build_model):
        scores.append([shallow_accuracy(build, seed) for seed in range(3)])
    shown = (f"{statistics.mean(found):.1f}" for found in scores)
    yield "a net needs batch norm", "784-500-ReLU-10, 200 steps of SGD 0.1", *shown


def shallow_accuracy(build: Build, seed: int) -> float:
    """Test accuracy in percent."""
    net = seeded(seed, build)
    enlarged = nn.Sequential(*(nn.Unflatten(1, (1, 8, 8)), nn.Upsample((28, 28), mode="bilinear"), nn.Flatten()), net)
    fit(enlarged, torch.optim.SGD(net.parameters(), 0.1), 200, BATCH, seed=seed).eval()
    return correct(enlarged, digits().test_x, digits().test_y)


def by_hand() -> Rows:
    """The article's batch norm (running statistics that are parameters, running_var for epsilon) against nn's."""
    for name, make in (("Adam 0.001", adam), ("SGD 0.05", sgd), ("SGD 0.05, momentum 0.9", momentum)):
        outcomes = []
        for build in (Handwritten, lambda: with_nn(Handwritten())):
            scores = []
            for seed in range(5):
                net = nn.Sequential(FromZeroToOne(), seeded(seed, build))
                fit(net, make(net), 400, BATCH, seed=seed).eval()
                scores.append(correct(net, digits().test_x, digits().test_y))
            outcomes.append(" ".join(f"{score:.0f}" for score in scores))
        yield (
            "the hand-written BatchNorm1d works",
            f"4 × Linear 100, {name}, 5 seeds",
            f"by hand {outcomes[0]}",
            "",
            f"nn's {outcomes[1]}",
        )


class FromZeroToOne(nn.Module):
    """The standardized digits as they mostly are in tutorials."""

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        low, high = digits().x.min(), digits().x.max()
        return (x - low) / (high - low)


def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), 1e-3)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.05)


def momentum(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.05, 0.9)


def with_nn(net: nn.Module) -> nn.Module:
    """`net` with torch's own batch norm in the place of each that was written by hand."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, HandwrittenNorm):
                setattr(parent, name, nn.BatchNorm1d(len(child.gamma)))
    return net
