"""Where batch norm is said not to fit: recurrent nets, transformers, generators."""

from __future__ import annotations

import copy
import math
import statistics
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradcheck_tool as gct
from batch_norm_studies.measuring import (
    BATCH,
    OPTIMIZERS,
    STEPS,
    WIDTH,
    Rows,
    accuracy,
    correct,
    digits,
    ends,
    fit,
    fixed,
    probed,
    seeded,
)
from batch_norm_studies.nets import (
    LATENT,
    Elman,
    LongShortTermMemory,
    Norm,
    TokenBatchNorm,
    Transformer,
    discriminator,
    frechet,
    generator,
)


def recurrent() -> Rows:
    """tanh(norm(U x + W h)), 64 units, over a digit's 8 rows and over its 64 pixels: decades from the last step to the
    first, accuracy in evaluation mode and with the statistics of the test batch; what the tool says of each"""
    yield "steps", "norm", "decades", "accuracy", "in training mode", "fix --norm batch"
    for steps in (8, 64):
        for name, made in recurrent_nets(steps).items():
            rows = nn.Unflatten(1, (steps, 64 // steps))
            net = nn.Sequential(rows, made)
            reasons = {skip.reason.partition(",")[0].partition(":")[0] for skip in fixed(net, "batch").skipped}
            yield steps, name, step_decades(rows, made), *both_modes(net), "; ".join(sorted(reasons)) or "-"


def recurrent_nets(steps: int) -> dict[str, nn.Module]:
    """Nets over `steps` steps, each with the weights of seed 0."""

    def elman(norms: list[nn.Module], start: float = 1.0) -> Elman:
        return seeded(0, Elman, 64 // steps, WIDTH, norms, start)

    orthogonal = elman([])
    nn.init.orthogonal_(orthogonal.again.weight)
    return {
        "none": elman([]),
        "batch, one for all steps": elman([nn.BatchNorm1d(WIDTH)]),
        "batch, one a step": elman([nn.BatchNorm1d(WIDTH) for _ in range(steps)]),
        "the same, weight 0.1": elman([nn.BatchNorm1d(WIDTH) for _ in range(steps)], 0.1),
        "layer": elman([nn.LayerNorm(WIDTH)]),
        "none, W orthogonal": orthogonal,
        "none, LSTM": seeded(0, LongShortTermMemory, 64 // steps, WIDTH),
    }


def step_decades(rows: nn.Module, net: nn.Module) -> str:
    """Decades of the gradient by a recurrent net's input from its last step to its first."""
    steps = rows(digits().x[:BATCH]).requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(net(steps), digits().y[:BATCH]), steps)
    norms = grad.double().flatten(2).norm(dim=(0, 2))
    return f"{math.log10(norms[0] / norms[-1]):.2f}" if norms[0] else "-inf"


def both_modes(net: nn.Module) -> tuple[str, str]:
    """Accuracies of the better training, in evaluation mode, and in training mode with the test digits as one batch."""
    data, found = digits(), []
    for make in OPTIMIZERS.values():
        trained = copy.deepcopy(net)
        fit(trained, make(trained), STEPS, BATCH).eval()
        scores = correct(trained, data.chosen_x, data.chosen_y), correct(trained, data.test_x, data.test_y)
        found.append((*scores, correct(trained.train(), data.test_x, data.test_y)))
    _, evaluated, training = max(found, key=lambda scores: scores[0])
    return f"{evaluated:.0f}", f"{training:.0f}"


def sequence() -> Rows:
    """pre-norm transformers of 4 blocks, width 64, over a digit's 8 rows: accuracy; then causal ones that predict the
    next row: squared error over the rows' variance in training and evaluation mode, and what share of the gradient of
    the first output is by later rows, and of a sample's output by other samples"""
    yield "norm", "decades", "accuracy", "batch of 4", "error, training", "evaluation", "by later rows", "other samples"
    norms: dict[str, Norm] = {"none": lambda _: nn.Identity(), "layer": nn.LayerNorm, "rms": nn.RMSNorm}
    for name, norm in (norms | {"batch, over samples and rows": TokenBatchNorm}).items():
        net = seeded(0, Transformer, 4, WIDTH, norm, False)
        figures = f"{ends(probed(net)):.2f}", f"{accuracy(net):.0f}", f"{accuracy(net, 4):.0f}"
        yield name, *figures, *next_row(seeded(0, Transformer, 4, WIDTH, norm, True))


def next_row(net: nn.Module) -> tuple[str, ...]:
    """Trains a causal transformer; see `sequence`."""
    data, order = digits(), torch.Generator().manual_seed(0)
    spread = data.x.unflatten(1, (8, 8))[:, 1:].var()
    optimizer = OPTIMIZERS["Adam"](net)

    def error(x: Tensor) -> Tensor:
        predicted: Tensor = net(x)[:, :-1]
        share: Tensor = (predicted - x.unflatten(1, (8, 8))[:, 1:]).square().mean() / spread
        return share

    for _ in range(STEPS):
        optimizer.zero_grad()
        error(data.x[torch.randint(len(data.x), (BATCH,), generator=order)]).backward()
        optimizer.step()
    with torch.no_grad():
        net.eval()
        evaluated = float(error(data.test_x[:BATCH]))
        net.train()
        training = float(error(data.test_x[:BATCH]))
    x = data.test_x[:BATCH].clone().requires_grad_()
    (grad,) = torch.autograd.grad(net(x)[0, 0].sum(), x)
    rows = grad.double().unflatten(1, (8, 8)).norm(dim=2)
    total = float(rows.norm())
    later, others = float(rows[0, 1:].norm()) / total, float(rows[1:].norm()) / total
    return f"{training:.2f}", f"{evaluated:.2f}", f"{later:.1%}", f"{others:.1%}"


def generators() -> Rows:
    """small DCGANs on the digits, 1,000 steps of 64 (Adam, 0.001, β₁ 0.5), 3 seeds: decades of the generator, and the
    Fréchet distance of 450 images to the test digits, in evaluation and in training mode; by how much an image moves
    when the rest of its batch is drawn anew, over how much images differ"""
    data = digits()
    real = data.test_x
    floor = frechet(real, data.x)
    yield (
        "norm in",
        "decades",
        "Fréchet, evaluation",
        "training",
        "of each seed",
        f"moved (digits to digits: {floor:.1f})",
    )
    variants: dict[str, tuple[Norm | None, Norm | None]] = {
        "none": (None, None),
        "batch, generator": (nn.BatchNorm2d, None),
        "batch, discriminator": (None, nn.BatchNorm2d),
        "batch, both": (nn.BatchNorm2d, nn.BatchNorm2d),
        "group, both": (partial(nn.GroupNorm, 8), partial(nn.GroupNorm, 8)),
    }
    for name, (one, other) in variants.items():
        evaluated, training, moved, slopes = [], [], [], []
        for seed in range(3):
            maker, judge = seeded(seed, generator, one), seeded(seed, discriminator, other)
            slopes.append(ends(gct.probe(nn.Sequential(maker, judge), torch.randn(BATCH, LATENT))))
            adversarial(maker, judge, seed)
            with torch.no_grad():
                noise = torch.randn(len(real), LATENT)
                images = maker.train()(noise).flatten(1)
                again = maker(torch.cat([noise[:1], torch.randn(BATCH - 1, LATENT)])).flatten(1)
                first = maker(noise[:BATCH]).flatten(1)
                moved.append(float((again[0] - first[0]).norm() / images.var(0).sum().sqrt()))
                training.append(frechet(unscaled(images), real))
                evaluated.append(frechet(unscaled(maker.eval()(noise).flatten(1)), real))
        shown = [f"{statistics.mean(values):.1f}" for values in (evaluated, training)]
        each = " ".join(f"{value:.1f}" for value in evaluated)
        yield name, f"{statistics.mean(slopes):.2f}", *shown, each, f"{statistics.mean(moved):.2f}"


def unscaled(images: Tensor) -> Tensor:
    """From −1 … 1, as the generator has them, to the scale of the standardized digits."""
    low, high = digits().x.min(), digits().x.max()
    return (images + 1) / 2 * (high - low) + low


def adversarial(maker: nn.Module, judge: nn.Module, seed: int, steps: int = 1000) -> None:
    """Trains a generator and a discriminator in place, by turns, with the non-saturating loss."""
    data = digits()
    low, high = data.x.min(), data.x.max()
    images = ((data.x - low) / (high - low) * 2 - 1).view(-1, 1, 8, 8)
    torch.manual_seed(seed)
    makers, judges = (torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.999), fused=True) for net in (maker, judge))
    for _ in range(steps):
        real, made = images[torch.randint(len(images), (BATCH,))], maker(torch.randn(BATCH, LATENT))
        loss = F.softplus(-judge(real)).mean() + F.softplus(judge(made.detach())).mean()
        judges.zero_grad()
        loss.backward()
        judges.step()
        makers.zero_grad()
        F.softplus(-judge(made)).mean().backward()
        makers.step()
