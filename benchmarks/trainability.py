"""Which small nets learn, and whether the tool knows: `python benchmarks/trainability.py label`.

`label` trains the cells of ground_truth/cells.py and writes ground_truth/labels.json (about an hour on one core; goes
on where it was stopped).
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch
from ground_truth.cells import all_cells, kept_out
from ground_truth.training import BATCH, OPTIMIZERS, STEPS, label, trained
from tabulate import tabulate

LABELS = Path(__file__).with_name("ground_truth") / "labels.json"


def read_labels() -> dict[str, dict[str, object]]:
    """What was found out of each cell, by its name."""
    if not LABELS.exists():
        return {}
    found: dict[str, dict[str, object]] = json.loads(LABELS.read_text())["cells"]
    return found


def make_labels() -> None:
    """Trains the cells that have no label yet. Written after each, whole or not at all."""
    cells = all_cells()
    known = read_labels()
    labels = {cell.name: known[cell.name] for cell in cells if cell.name in known}
    for number, cell in enumerate(cells, 1):
        if cell.name in labels:
            continue
        runs = trained(cell)
        labels[cell.name] = {"label": label(runs), "kept_out": kept_out(cell), "runs": [asdict(run) for run in runs]}
        for run in labels[cell.name]["runs"]:  # type: ignore[attr-defined]
            run["share"], run["seconds"] = round(run["share"], 4), round(run["seconds"], 2)
        head = {"torch": torch.__version__, "steps": STEPS, "batch": BATCH, "optimizers": list(OPTIMIZERS)}
        partial = LABELS.with_suffix(".partial")
        partial.write_text(json.dumps(head | {"cells": labels}, indent=1) + "\n")
        os.replace(partial, LABELS)
        shares = " ".join(f"{run.share:.2f}" for run in runs)
        print(f"{number}/{len(cells)} {labels[cell.name]['label']:12} {cell.name}  {shares}", flush=True)


def count_labels() -> None:
    """How many cells of each label, in both halves."""
    labels = read_labels()
    counts = Counter((entry["kept_out"], entry["label"]) for entry in labels.values())
    kinds = ("trainable", "fragile", "untrainable")
    rows = [("kept out" if half else "to choose on", *(counts[half, kind] for kind in kinds)) for half in (False, True)]
    print(tabulate(rows, ("", *kinds)))


def main(arguments: list[str]) -> int:
    """Run what is asked for."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers below 1e-38 teach no net anything, and take a hundred times as long
    if arguments != ["label"]:
        print(__doc__)
        return 2
    make_labels()
    count_labels()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
