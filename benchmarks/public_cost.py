"""What `audit --probe` costs on public nets, in training steps of the same net: `python benchmarks/public_cost.py`.

Handwritten digits of 64 x 64, 16 a batch, cross-entropy, fresh weights of timm; one thread, each figure once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from tabulate import tabulate
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from zoo import imported

import gradcheck_tool as gct

NETS: dict[str, dict[str, int]] = {
    "resnet18": {},
    "resnet50": {},
    "mobilenetv3_small_100": {},
    "efficientnet_b0": {},
    "regnety_002": {},
    "densenet121": {},
    "convnext_atto": {},
    "nf_resnet26": {},
    "vit_tiny_patch16_224": {"img_size": 64},
    "mixer_s32_224": {"img_size": 64},
}
SAMPLES, SIZE = 16, 64


def batch() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.tensor(digits.images[:SAMPLES], dtype=torch.float32)[:, None] / 8 - 1
    return interpolate(images, (SIZE, SIZE)).expand(-1, 3, -1, -1).clone(), torch.tensor(digits.target[:SAMPLES])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    timm = imported("timm")
    x, y = batch()
    rows = []
    for name, options in NETS.items():
        torch.manual_seed(0)
        net = timm.create_model(name, num_classes=10, **options)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)

        def step(net: torch.nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            optimizer.step()

        step()
        one = statistics.median(seconds(step) for _ in range(5))
        torch.manual_seed(0)
        net = timm.create_model(name, num_classes=10, **options)
        report = None

        def look(net: torch.nn.Module = net) -> None:
            nonlocal report
            report = gct.audit(net, x, probe=True, loss_fn=cross_entropy, targets=y)

        spent = seconds(look)
        assert report is not None
        learning = report.probe.learning
        rows.append((name, 1e3 * one, spent / one, learning.steps if learning else 0, report.probe.verdict))
    print(tabulate(rows, ("net", "a step, ms", "audit --probe, in steps", "of Adam", "verdict"), floatfmt=".1f"))


if __name__ == "__main__":
    main()
