"""Batch norm, residual nets, pooling, dropout: predicted against measured. `python benchmarks/theory_norms.py`.

Exits 1 if a prediction misses its criterion. Inputs are standard normal, the loss is a random projection of the output,
but for the ratios of weight gradients: cross-entropy against random classes, in float64, as published.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from nets_for_theory import NETS, mlp
from tabulate import tabulate
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.theory import activation_named, chi_batch_norm

CHI_WIDTH, CHI_BATCH, CHI_DEPTH = 1024, 256, 12
CHI_FROM = 4  # blocks until the Gram matrix of the batch has come to its fixed point
PUBLISHED = {  # χ_BN at infinite batch, Yang et al. 2019
    "ReLU": 1.4669,
    "LeakyReLU": 1.4534,
    "GELU": 1.3188,
    "Hardtanh": 1.3229,
    "Tanh": 1.1778,
    "ELU": 1.0790,
    "SELU": 1.0716,
    "Sigmoid": 1.0336,
}
FINITE = {8: 1.78, 16: 1.59, 32: 1.53, 64: 1.49}
"""χ_BN of ReLU at finite batch, simulated when the tool was planned."""
RATIOS = {  # first over output layer's weight gradient, without and with batch norm
    nn.ReLU: (1e-6, 43.0),
    nn.Tanh: (4e-4, 6.0),
    nn.Sigmoid: (1.7e-17, 0.57),
    nn.GELU: (1.7e-9, 15.0),
}


def measured_chi(activation: Callable[[Tensor], Tensor], batch: int, seed: int) -> float:
    """Growth of the squared gradient norm a block, at the fixed point of a plain net of float64 layers with batch norm
    and no scale or shift, between two of its blocks in the middle."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(batch, CHI_WIDTH, generator=generator, dtype=torch.float64)
    outputs = []
    for _ in range(CHI_DEPTH):
        weight = torch.randn(CHI_WIDTH, CHI_WIDTH, generator=generator, dtype=torch.float64) / CHI_WIDTH**0.5
        z = (h @ weight).requires_grad_()
        outputs.append(z)
        h = activation((z - z.mean(0)) / z.std(0, correction=0))
    cotangent = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    first, last = outputs[CHI_FROM], outputs[CHI_DEPTH - 2]
    grads = torch.autograd.grad(h, [first, last], cotangent)
    norms = [float(grad.square().sum()) for grad in grads]
    return (norms[0] / norms[1]) ** (1 / (CHI_DEPTH - 2 - CHI_FROM))


def chi_rows(seeds: int) -> Iterator[tuple[object, ...]]:
    """Within 2 % of what is measured at that batch size, and of what was published."""
    for name, published in PUBLISHED.items():
        module = getattr(nn, name)()
        activation = activation_named(name)
        assert activation is not None
        predicted, wide = chi_batch_norm(activation, CHI_BATCH), chi_batch_norm(activation, 10**6)
        measured = statistics.mean(measured_chi(module, CHI_BATCH, seed) for seed in range(seeds))
        good = abs(predicted / measured - 1) < 0.02 and abs(wide / published - 1) < 0.005
        yield name, CHI_BATCH, predicted, measured, wide, published, "ok" if good else "MISS"
    relu = activation_named("relu")
    assert relu is not None
    for batch, simulated in FINITE.items():
        predicted = chi_batch_norm(relu, batch)
        measured = statistics.mean(measured_chi(nn.ReLU(), batch, seed) for seed in range(3 * seeds))
        good = abs(predicted / measured - 1) < 0.02 and abs(predicted / simulated - 1) < 0.02
        yield "ReLU", batch, predicted, measured, None, simulated, "ok" if good else "MISS"


def forecaster(model: nn.Module, x: Tensor) -> Forecaster:
    return Forecaster(model, read(model, Inputs((x,))).structure)


def measured_ratio(model: nn.Module, x: Tensor, classes: Tensor) -> float:
    """The first layer's weight-gradient norm over the last one's."""
    layers = gct.probe(model, x, loss_fn=F.cross_entropy, targets=classes).layers
    first, last = layers[0].grad_norm, layers[-1].grad_norm
    assert first is not None
    assert last is not None
    return first / last


def ratio_rows(seeds: int) -> Iterator[tuple[object, ...]]:
    """Within a factor of 1.5 of the published figures, as predicted and as measured."""
    for activation, both in RATIOS.items():
        for norm, published in zip((None, nn.BatchNorm1d), both, strict=True):
            predicted, measured = [], []
            for seed in range(seeds):
                torch.manual_seed(seed)
                model = mlp(activation, 20, 512, norm=norm).double()
                x, classes = torch.randn(64, 512).double(), torch.randint(10, (64,))
                guess = forecaster(model, x).weight_gradient_decades()
                predicted.append(float("nan") if guess is None else guess)
                measured.append(math.log10(measured_ratio(model, x, classes)))
            figures = [10 ** statistics.mean(values) for values in (predicted, measured)]
            good = all(2 / 3 < figure / published < 1.5 for figure in figures)
            what = "batch norm" if norm else "plain"
            yield activation.__name__, what, *(f"{v:.2g}" for v in (*figures, published)), "ok" if good else "MISS"


def net_rows(seeds: int) -> Iterator[tuple[object, ...]]:
    """Within 15 % or 0.3 decades: from the first to the last weight layer."""
    for name, (build, shape) in NETS.items():
        predicted, measured, spread, measured_spread = [], [], [], []
        for seed in range(seeds):
            torch.manual_seed(seed)
            model, x = build(), torch.randn(shape)
            report = gct.audit(model, x, probe=True)
            assert report.forecast is not None
            assert report.forecast.over is not None
            assert report.probe is not None
            layers = {layer.name: layer for layer in report.probe.layers}
            first, last = (layers[end] for end in report.forecast.over)
            assert first.output_grad_norm
            assert last.output_grad_norm
            figures = report.forecast.decades, report.forecast.spread_decades
            predicted.append(float("nan") if figures[0] is None else figures[0])
            measured.append(math.log10(first.output_grad_norm / last.output_grad_norm))
            spread.append(float("nan") if figures[1] is None else figures[1])
            if getattr(first, "input_spread", None) and getattr(last, "input_spread", None):
                measured_spread.append(math.log10(last.input_spread / first.input_spread))
        guess, truth = statistics.mean(predicted), statistics.mean(measured)
        good = abs(guess - truth) <= max(0.3, 0.15 * abs(truth))
        seen = statistics.mean(measured_spread) if measured_spread else None
        yield name, guess, truth, guess - truth, statistics.mean(spread), seen, "ok" if good else "MISS"


def main() -> int:
    """Print the tables; 1 if any row misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    tables = [
        (
            f"Growth of the squared gradient norm a block under batch norm, width {CHI_WIDTH}",
            ("activation", "batch", "predicted", "measured", "wide batch", "published", ""),
            list(chi_rows(seeds)),
            ".4f",
        ),
        (
            "Weight gradient of the first layer over that of the last: 20 layers of 512, cross-entropy",
            ("activation", "", "predicted", "measured", "published", ""),
            list(ratio_rows(seeds)),
            "",
        ),
        (
            f"log10 of the gradient norm at the first weight layer over that at the last, mean of {seeds} seeds",
            ("net", "predicted", "measured", "difference", "spread predicted", "spread measured", ""),
            list(net_rows(seeds)),
            "+.3f",
        ),
    ]
    for title, head, rows, form in tables:
        print(f"\n{title}\n")
        print(tabulate(rows, head, floatfmt=form or "g", missingval="-", disable_numparse=not form))
    rows = [row for _, _, rows, _ in tables for row in rows]
    missed = sum(row[-1] != "ok" for row in rows)
    print(f"\n{missed} of {len(rows)} rows miss their criterion")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
