"""Which small nets learn, and whether the tool knows: `python benchmarks/trainability.py COMMAND`.

`label` trains the cells of ground_truth/cells.py and writes ground_truth/labels.json (five hours on one core; goes on
where it was stopped). `verdicts` holds the probe's verdicts against the labels (10 minutes), `invariance` probes with
the loss scaled, the samples permuted and in float64 (an hour), `auto` trains what `fix --auto` makes of the cells
that do not learn (30 minutes), `harm` what it makes of those that do (15 minutes), `insert-bn` trains the former with
batch norm by hand and by `fix` (an hour), `convincing` with every remedy that looks healthy (an hour), `cost` times
`audit --probe` and `fix --auto` against training steps (50 minutes).
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ground_truth import convincing, inserting
from ground_truth.blocks import Cell
from ground_truth.cells import GROUPS, all_cells, group_of
from ground_truth.judging import autotrainer, batch_of, best_of, in_steps, outcome, profile_of, score
from ground_truth.nets import build
from ground_truth.training import BATCH, OPTIMIZERS, STEPS, label, trained
from tabulate import tabulate
from torch.nn.functional import cross_entropy

import gradcheck_tool as gct

LABELS = Path(__file__).with_name("ground_truth") / "labels.json"
KINDS = ("trainable", "fragile", "untrainable")


def read_labels() -> dict[str, Any]:
    """What was found out of each cell, by its name."""
    if not LABELS.exists():
        return {}
    found: dict[str, Any] = json.loads(LABELS.read_text())["cells"]
    return found


def make_labels() -> int:
    """Trains the cells that have no label yet. Written after each, whole or not at all."""
    cells = all_cells()
    known = read_labels()
    labels = {cell.name: known[cell.name] for cell in cells if cell.name in known}
    for number, cell in enumerate(cells, 1):
        if cell.name in labels:
            continue
        found = trained(cell)
        runs = [asdict(run) for run in found]
        for run in runs:
            run["share"], run["seconds"] = round(run["share"], 4), round(run["seconds"], 2)
        labels[cell.name] = {"label": label(found), "runs": runs}
        head = {"torch": torch.__version__, "steps": STEPS, "batch": BATCH, "optimizers": list(OPTIMIZERS)}
        partial = LABELS.with_suffix(".partial")
        partial.write_text(json.dumps(head | {"cells": labels}, indent=1) + "\n")
        os.replace(partial, LABELS)
        shares = " ".join(f"{run['share']:.2f}" for run in runs)
        print(f"{number}/{len(cells)} {labels[cell.name]['label']:12} {cell.name}  {shares}", flush=True)
    counts = Counter((group_of(cell), labels[cell.name]["label"]) for cell in cells)
    print(tabulate([(name, *(counts[name, kind] for kind in KINDS)) for name in GROUPS], ("", *KINDS)))
    return 0


def judge() -> int:
    """Verdicts and AUTOTRAINER's rules against the labels, and every cell of which the verdict is wrong."""
    labels = read_labels()
    known = [cell for cell in all_cells() if labels.get(cell.name, {}).get("label") in ("trainable", "untrainable")]
    judged = [(cell, labels[cell.name]["label"] == "untrainable", profile_of(cell)) for cell in known]
    rows: list[tuple[object, ...]] = []
    for name in (*GROUPS, "all"):
        mine = [one for one in judged if name in (group_of(one[0]), "all")]
        truth = [untrainable for _, untrainable, _ in mine]
        for who, sick in (
            ("gradtool probe", [profile.verdict != "healthy" for _, _, profile in mine]),
            ("AUTOTRAINER, step 0", [autotrainer(profile) for _, _, profile in mine]),
        ):
            found = score(sick, truth)
            rows.append((name, who, found.recall, found.precision, *vars(found).values()))
    wrong = []
    for cell, untrainable, profile in judged:
        if untrainable != (profile.verdict != "healthy"):
            best = max(run["share"] for run in labels[cell.name]["runs"])
            why = profile.reasons[0] if profile.verdict != "healthy" else "-"
            wrong.append((group_of(cell), f"{best:.2f}", profile.verdict, cell.name, why))
    head = ("cells", "", "recall", "precision", "found", "missed", "false", "right")
    print(tabulate(rows, head, floatfmt=".3f"))
    print("\nWrong: the best share of the way from chance to all right, the verdict, the cell\n")
    print(tabulate(wrong, ("cells", "best", "verdict", "cell", "reason")))
    return 0


def vary() -> int:
    """The verdicts when the scale of the loss, the order of the samples or the dtype changes; 1 if one differs."""
    changes = ("1e-6", "1e6", "permuted", "float64")
    differing, cells = [], all_cells()
    for cell in cells:
        verdicts = [profile_of(cell, change).verdict for change in ("", *changes)]
        if len(set(verdicts)) > 1:
            differing.append((cell.name, *verdicts))
    print(tabulate(differing, ("cell", "as it is", *changes)))
    print(f"{len(differing)} of {len(cells)} cells get another verdict")
    return 1 if differing else 0


def heal() -> int:
    """What `fix --auto` makes of the untrainable cells, trained."""
    labels = read_labels()
    counts: Counter[tuple[str, str]] = Counter()
    for cell in all_cells():
        entry = labels.get(cell.name)
        if entry is None or entry["label"] != "untrainable":
            continue
        x, y = batch_of(cell)
        result = gct.fix(build(cell), x, loss_fn=cross_entropy, targets=y, auto=True)
        run = best_of(cell, lambda made=result.model: copy.deepcopy(made))  # type: ignore[misc]
        counts[group_of(cell), outcome(run)] += 1
        tried = ",".join(trial.remedy for trial in result.tried)
        print(f"{outcome(run):6} {run.share:.2f} {result.remedy} ({tried})  {cell.name}", flush=True)
    ends = ("learns", "half", "not")
    print(tabulate([(name, *(counts[name, end] for end in ends)) for name in GROUPS], ("untrainable", *ends)))
    return 0


def harm() -> int:
    """Trainable cells that `fix --auto` changes: the best share of the way from chance to all right, over the whole
    grid and all steps, as they are and after it. Those that it leaves alone are no worse. 1 if one loses 2 points."""
    labels = read_labels()
    rows, trainable = [], 0
    for cell in all_cells():
        entry = labels.get(cell.name)
        if entry is None or entry["label"] != "trainable":
            continue
        trainable += 1
        x, y = batch_of(cell)
        result = gct.fix(build(cell), x, loss_fn=cross_entropy, targets=y, auto=True)
        if result.remedy is None:
            continue
        before = best_of(cell, lambda cell=cell: build(cell), until=1.0)  # type: ignore[misc]
        after = best_of(cell, lambda made=result.model: copy.deepcopy(made), until=1.0)  # type: ignore[misc]
        rows.append((group_of(cell), f"{before.share:.3f}", f"{after.share:.3f}", result.remedy, cell.name))
        print(*rows[-1], flush=True)
    worse = sum(float(row[2]) < float(row[1]) - 0.02 for row in rows)
    print(f"{trainable} trainable, {len(rows)} of them changed, {worse} of these worse by more than 2 points")
    return 1 if worse else 0


def untrainable() -> list[Cell]:
    """The cells that do not learn as they are."""
    labels = read_labels()
    return [cell for cell in all_cells() if labels.get(cell.name, {}).get("label") == "untrainable"]


def compare_insertions() -> int:
    """`fix --insert-bn` against batch norm by hand, trained; 1 if it heals less."""
    return inserting.compare(untrainable())


def judge_convincing() -> int:
    """How many of the candidates of `fix --auto` learn, by when they begin to: every second untrainable cell."""
    return convincing.judge(untrainable()[::2])


def measure_cost() -> int:
    """`probe --steps 0`, `audit --probe` and `fix --auto` over the time of a training step of the same net, over all
    cells."""
    in_steps(all_cells()[0])  # imports, which are not counted
    measured = [in_steps(cell) for cell in all_cells()]
    rows = []
    for kind, wanted in (("all", 0.0), ("steps of 5 ms or more", 5e-3), ("steps of 20 ms or more", 2e-2)):
        mine = [row for row in measured if row[0] >= wanted]
        if len(mine) < 20:
            continue  # too few for their tails
        for number, what in ((1, "probe --steps 0"), (2, "audit --probe"), (3, "fix --auto")):
            cuts = statistics.quantiles([row[number] for row in mine], n=20)
            rows.append((kind, len(mine), what, cuts[9], cuts[17], cuts[18], max(row[number] for row in mine)))
    print(tabulate(rows, ("cells", "", "in training steps", "median", "90 %", "95 %", "most"), floatfmt=".0f"))
    return 0


COMMANDS = {
    "label": make_labels,
    "verdicts": judge,
    "invariance": vary,
    "auto": heal,
    "harm": harm,
    "insert-bn": compare_insertions,
    "convincing": judge_convincing,
    "cost": measure_cost,
}


def main(arguments: list[str]) -> int:
    """Run what is asked for."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers below 1e-38 teach no net anything, and take a hundred times as long
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(__doc__)
        return 2
    return COMMANDS[arguments[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
