"""Plain and residual nets: how deep, on how small batches, beside which other norms, with dropout."""

from __future__ import annotations

import statistics
from functools import partial

import torch
from nets_for_theory import Norm, Residual, he, mlp
from torch import Tensor, nn

import gradcheck_tool as gct
from batch_norm_studies.measuring import (
    BATCH,
    WIDTH,
    Build,
    Rows,
    accuracy,
    after,
    after_two_steps,
    correct,
    digits,
    ends,
    fit,
    fixed,
    growth,
    probed,
    seeded,
)
from gradcheck_tool.remedy.branches import ScaleBranches
from gradcheck_tool.remedy.insert_norm import NormKind
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.results import GradientProfile

NORMS: dict[str, Norm | None] = {
    "none": None,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "group": partial(nn.GroupNorm, 8),
}


def depth() -> Rows:
    """plain nets of Linear 64, PyTorch's default weights: decades (in 2 steps: after two of the probe's), by how much a
    block of the later half multiplies; accuracies of the net as it is, with batch norm, with new weights (`reinit`)"""
    yield (
        "activation",
        "blocks",
        "plain",
        "with bn, predicted",
        "measured",
        "in 2 steps",
        "a block ×",
        "plain",
        "bn",
        "reinit",
    )
    for activation in (nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid):
        for blocks in (2, 5, 10, 20, 30, 50):
            net = seeded(0, mlp, activation, blocks, WIDTH)
            predicted = gct.audit(net, digits().x[:BATCH], min_depth=1).chains[0].predicted_decades_with_bn
            result = fixed(net, "batch")
            assert result.before is not None
            assert result.after is not None
            stages = result.before, result.after, after_two_steps(result)
            before, with_norm, stepped = (stage.measured_decades for stage in stages)
            decades = (
                *(f"{value:.2f}" for value in (before, predicted, with_norm, stepped)),
                growth(result.after, blocks),
            )
            nets = (net, result.model, after(Reinitialize(), net))
            yield activation.__name__, blocks, *decades, *(f"{accuracy(made):.0f}" for made in nets)


def batch_size() -> Rows:
    """8 blocks of Linear 64 and ReLU: decades with batch norm at that batch size, and the accuracy after 8,192 samples
    (Adam at 0.001 √(batch/64); mean of 2 seeds), of batch norm also with the statistics of all training digits"""
    yield "batch", "bn, predicted", "measured", "none (He)", "batch", "batch, statistics anew", "layer", "group"
    data = digits()
    for batch in (2, 4, 8, 16, 32, 64, 128, 256):
        net = seeded(0, mlp, nn.ReLU, 8, WIDTH)
        predicted = gct.audit(net, data.x[:batch]).chains[0].predicted_decades_with_bn
        profile = fixed(net, "batch", batch).after
        assert profile is not None
        scores: dict[str, list[float]] = {}
        for seed in range(2):
            for name, norm in NORMS.items():
                plain = seeded(seed, mlp, nn.ReLU, 8, WIDTH, norm)
                made = plain if norm else he(plain)
                stepper = torch.optim.Adam(made.parameters(), 1e-3 * (batch / 64) ** 0.5, fused=True)
                fit(made, stepper, 8192 // batch, batch, seed=seed).eval()
                scores.setdefault(name, []).append(correct(made, data.test_x, data.test_y))
                if name == "batch":
                    scores.setdefault("anew", []).append(correct(with_statistics(made), data.test_x, data.test_y))
        guess = "-" if predicted is None else f"{predicted:.2f}"
        shown = (f"{statistics.mean(scores[name]):.0f}" for name in ("none", "batch", "anew", "layer", "group"))
        yield batch, guess, f"{profile.measured_decades:.2f}", *shown


def with_statistics(net: nn.Module) -> nn.Module:
    """`net` with its batch norms' statistics taken over all training digits at once, in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None  # a plain average, here of one batch
    with torch.no_grad():
        net.train()(digits().x)
    return net.eval()


def residual() -> Rows:
    """ReLU(x + branch) with two Linears of 64 a branch (He), and plain nets of as many layers: decades, and accuracies
    with Adam at 0.001 and SGD at 0.01; at zero: the branches start at zero (with a norm: its weight)"""
    yield "branches", "net", "decades", "accuracy"
    zero = ScaleBranches(normalized=True)
    for blocks in (4, 16, 40):
        for name, norm in (("none", None), ("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)):
            plain = he(seeded(0, mlp, nn.ReLU, 2 * blocks, WIDTH, norm))
            net = he(seeded(0, Residual, blocks, WIDTH, norm, False))
            for kind, made in (("plain", plain), ("residual", net), ("residual, at zero", after(zero, net))):
                yield blocks, f"{kind}, norm {name}", f"{ends(probed(made)):.2f}", f"{accuracy(made):.0f}"


def norms() -> Rows:
    """plain nets, PyTorch's default weights: decades at batch 64; how far samples differ in what the head reads (0: not
    at all); accuracies after 400 steps of 64 and of 4"""
    yield "net", "norm", "decades", "differ", "accuracy", "batch of 4"
    nets: dict[str, Build] = {
        "20 × Linear, ReLU": lambda: mlp(nn.ReLU, 20, WIDTH),
        "20 × Linear, tanh": lambda: mlp(nn.Tanh, 20, WIDTH),
        "20 × Linear, sigmoid": lambda: mlp(nn.Sigmoid, 20, WIDTH),
        "12 × Conv, ReLU": lambda: convolutions(12),
    }
    kinds: tuple[NormKind, ...] = ("batch", "layer", "group", "instance", "rms")
    for name, build in nets.items():
        net = seeded(0, build)
        yield name, "none", *figures(probed(net)), f"{accuracy(net):.0f}", f"{accuracy(net, 4):.0f}"
        for kind in kinds:
            result = fixed(net, kind)
            if not result.plan:
                yield name, kind, "skipped", "", "", ""
                continue
            assert result.after is not None
            scores = accuracy(result.model), accuracy(result.model, 4)
            yield name, kind, *figures(result.after), *(f"{score:.0f}" for score in scores)


def figures(profile: GradientProfile) -> tuple[str, str]:
    """Decades, and the spread over samples of what goes into the last layer."""
    return f"{ends(profile):.2f}", f"{profile.layers[-1].input_spread or 0:.1e}"


def convolutions(blocks: int, channels: int = 16) -> nn.Sequential:
    """3×3 convolutions with ReLU on the 8×8 images, and a head over 2×2 averages."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for number in range(blocks):
        layers += [nn.Conv2d(channels if number else 1, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 10))


DROP = 0.5


def dropout() -> Rows:
    """3 blocks of Linear 256 and ReLU (He), 1,000 steps on 150 digits and on all (mean of 3 seeds): accuracy on the
    training digits and on the test digits; and the variance that a norm behind dropout sees in evaluation over the one
    it kept from training"""
    yield "digits", "norm", "dropout", "training", "test", "of each seed", "variance ×"
    places = {"none": None, "0.5 behind the activation": False, "0.5 in front of the norm": True}
    for rows in (150, len(digits().x)):
        for name in ("none", "batch", "layer"):
            for place, first in places.items():
                if name == "none" and first:
                    continue
                train, test, shifts = [], [], []
                for seed in range(3):
                    net = he(seeded(seed, dropping, NORMS[name], first))
                    fit(net, torch.optim.Adam(net.parameters(), 1e-3, fused=True), 1000, BATCH, rows, seed).eval()
                    train.append(correct(net, digits().x[:rows], digits().y[:rows]))
                    test.append(correct(net, digits().test_x, digits().test_y))
                    shifts.append(variance_shift(net))
                means = f"{statistics.mean(train):.1f}", f"{statistics.mean(test):.1f}"
                each = " ".join(f"{score:.1f}" for score in test)
                yield rows, name, place, *means, each, f"{statistics.mean(shifts):.2f}" if name == "batch" else ""


def dropping(norm: Norm | None, first: bool | None) -> nn.Sequential:
    """Three blocks; dropout in front of each norm, behind each activation, or (None) nowhere."""
    layers: list[nn.Module] = []
    for wide in (64, 256, 256):
        layers += [nn.Linear(wide, 256)]
        layers += [nn.Dropout(DROP)] if first else []
        layers += [*([norm(256)] if norm else []), nn.ReLU()]
        layers += [nn.Dropout(DROP)] if first is False else []
    return nn.Sequential(*layers, nn.Linear(256, 10))


def variance_shift(net: nn.Module) -> float:
    """What the last batch norm sees in evaluation mode, over the training digits: variance over the running one, the
    median channel (Li et al. 2019, Understanding the Disharmony between Dropout and Batch Normalization)."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    if not norms:
        return 1.0
    seen: list[Tensor] = []
    handle = norms[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net.eval()(digits().x)
    handle.remove()
    kept = norms[-1].running_var
    assert kept is not None
    return float((seen[0].var(0) / kept).median())
