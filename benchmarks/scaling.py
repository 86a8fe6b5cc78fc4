"""Cost grows linearly with the model: audit and fix of a 1,000-block and of a 10,000-block chain, timed in one process.

Prints each time, what it is against one bare forward pass of the same model, and the growth from the one to the other;
exits 1 where a verb's time grows more than 13-fold. A run of both sizes is repeated, and the medians are compared.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import nn

import gradcheck_tool as gct

SIZES = (1_000, 10_000)
LIMIT = 13.0
WIDTH = 16
BATCH = 8


def chain(blocks: int) -> nn.Sequential:
    """A chain of `blocks` Linear → Tanh blocks, Glorot-initialized, and a head."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(blocks):
        linear = nn.Linear(WIDTH, WIDTH)
        nn.init.xavier_normal_(linear.weight)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 4))


def seconds(work: Callable[[], object]) -> float:
    """The time of one call, with the collector out of the way."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(BATCH, WIDTH)
    verbs: dict[str, Callable[[nn.Module], object]] = {
        "bare forward": lambda model: model(x),
        "audit": lambda model: gct.audit(model, x),
        "fix": lambda model: gct.fix(model, x),
    }
    times: dict[str, dict[int, float]] = {}
    gct.fix(chain(5), x)  # imports
    for name, verb in verbs.items():
        times[name] = {}
        for size in SIZES:
            model = chain(size)
            times[name][size] = statistics.median(seconds(lambda: verb(model)) for _ in range(options.repeat))  # noqa: B023
    small, large = SIZES
    rows = [
        (name, t[small], t[large], t[large] / t[small], t[large] / times["bare forward"][large])
        for name, t in times.items()
    ]
    headers = ("", f"{small:,} blocks, s", f"{large:,} blocks, s", "growth", "times a bare forward")
    print(tabulate(rows, headers=headers, floatfmt=("", ".3f", ".3f", ".1f", ".1f")))
    failed = [name for name, *_, growth, _ in rows if name != "bare forward" and growth > LIMIT]
    print(f"{len(failed)} of {len(verbs) - 1} verbs grow more than {LIMIT:g}-fold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
