"""What norms cost: parameters, the time of a step and the memory it holds, over those of the same net without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from article_bn_net import build_model
from nets_for_theory import Norm, conv_net, mlp, resnet
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.fx.experimental.optimization import fuse

import gradcheck_tool as gct
from batch_norm_studies.measuring import Rows, seeded
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.cost import cost
from gradcheck_tool.remedy.insert_norm import NormKind

KINDS: tuple[NormKind, ...] = ("batch", "layer", "group", "rms")


def article(norm: Norm | None) -> nn.Sequential:
    """The 784-500-10 net of the article, with its batch norm or without."""
    return nn.Sequential(*(layer for layer in build_model() if norm or not isinstance(layer, nn.BatchNorm1d)))


@dataclass(frozen=True)
class Net:
    """How a net is built with a norm or without, which batch norm it takes, and the shape of a batch."""

    name: str
    build: Callable[[Norm | None], nn.Module]
    batch_norm: Norm
    size: tuple[int, ...]


NETS = (
    Net("784-500-10, batch 64", article, nn.BatchNorm1d, (64, 784)),
    Net("12 × Linear 64, batch 64", lambda n: mlp(nn.ReLU, 12, 64, n), nn.BatchNorm1d, (64, 64)),
    Net("6 × Linear 1024, batch 64", lambda n: mlp(nn.ReLU, 6, 1024, n), nn.BatchNorm1d, (64, 1024)),
    Net("8 × Conv on 32×32, batch 16", lambda n: conv_net(nn.MaxPool2d, nn.ReLU, n), nn.BatchNorm2d, (16, 3, 32, 32)),
    Net("ResNet-14 on 32×32, batch 16", resnet, nn.BatchNorm2d, (16, 3, 32, 32)),
)


def costs() -> Rows:
    """parameters added, the time of a forward and backward pass and the memory held between them, over those of the net
    without a norm (norms by `gct.fix`; of the ResNet, which has no chain, by hand); a forward pass in evaluation mode,
    and the same with batch norm folded into the layer in front of it"""
    yield "net", "norm", "parameters", "step time ×", "memory ×", "evaluation ×", "folded ×"
    for net in NETS:
        plain, x = seeded(0, net.build, None), torch.randn(net.size)
        normed = seeded(0, net.build, net.batch_norm).eval()
        folded = f"{forward_ratio(symbolic_trace(plain), fuse(normed), x):.2f}"  # both run as graphs
        before = gct.capture(plain, x)
        for kind in KINDS:
            result = gct.fix(plain, x, kind, min_depth=1)
            by_hand = net.build is resnet
            if by_hand and kind not in ("batch", "group"):
                continue
            made = resnet(partial(nn.GroupNorm, 8) if kind == "group" else nn.BatchNorm2d) if by_hand else result.model
            if not by_hand and not result.plan:
                yield net.name, kind, "skipped", "", "", "", ""
                continue
            figures = cost(before, made, for_model(plain, x, None, 0))
            share = figures.parameters / sum(parameter.numel() for parameter in plain.parameters())
            ratios = figures.step_time_ratio, figures.memory_ratio, forward_ratio(before, made, x)
            yield net.name, kind, f"{share:+.1%}", *(f"{r:.2f}" for r in ratios), folded if kind == "batch" else ""


@torch.no_grad()
def forward_ratio(before: nn.Module, after: nn.Module, x: Tensor, rounds: int = 201) -> float:
    """Median times of a forward pass in evaluation mode, taken by turns."""
    nets = [before.eval(), after.eval()]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for net, taken in zip(nets, times, strict=True):
            start = time.perf_counter()
            net(x)
            taken.append(time.perf_counter() - start)
    return statistics.median(times[1]) / statistics.median(times[0])
