"""When batch norm helps and when it does not, measured: `python benchmarks/batch_norm.py STUDY` (needs scikit-learn).

docs/batch_norm.md tells what comes of the studies. One thread, at most some three minutes each, all seeds fixed.
Decades: log10 of the gradient norm at the first block over that at the last. Accuracy: on the test digits, in percent,
after the last of 400 steps of 64 and in evaluation mode, with the better of two optimizers (Adam at 0.001, SGD with
momentum at 0.01), which 300 digits kept out of the training say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from batch_norm_studies import elsewhere, plain, price
from batch_norm_studies.claims import claims
from batch_norm_studies.measuring import Rows
from tabulate import tabulate

STUDIES: dict[str, Callable[[], Rows]] = {
    "depth": plain.depth,
    "batch-size": plain.batch_size,
    "recurrent": elsewhere.recurrent,
    "sequence": elsewhere.sequence,
    "generator": elsewhere.generators,
    "residual": plain.residual,
    "cost": price.costs,
    "norms": plain.norms,
    "dropout": plain.dropout,
    "claims": claims,
}


def main(arguments: list[str]) -> int:
    """Print the table that is asked for."""
    if len(arguments) != 1 or arguments[0] not in STUDIES:
        print(__doc__)
        print("STUDY is one of: " + ", ".join(STUDIES))
        return 2
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers below 1e-38 teach no net anything, and take a hundred times as long
    study = STUDIES[arguments[0]]
    print(" ".join((study.__doc__ or "").split()) + "\n")
    head, *rows = study()
    print(tabulate(rows, [str(cell) for cell in head], disable_numparse=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
