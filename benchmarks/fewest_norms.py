"""Batch norm behind every block against batch norm behind the fewest: `python benchmarks/fewest_norms.py [TEXT …]`.

Each net is probed with both, on its own data and loss: the examples, and plain nets of ground_truth. TEXT narrows by
name. Needs scikit-learn; one thread, seven minutes.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from ground_truth.blocks import Cell
from ground_truth.cells import GROUPS, all_cells, group_of
from ground_truth.judging import batch_of
from ground_truth.nets import build
from torch import nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import capture
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.results import Target
from gradcheck_tool.target import Subject, load_subject


def plain_nets() -> Iterator[tuple[str, Subject]]:
    """The examples with deep chains, then of three groups of ground_truth the nets without norms and shortcuts, on
    their own data."""
    examples = Path(__file__).parent.parent / "examples"
    for name in ("deep_sigmoid_mlp.py", "plain_conv_net.py"):
        yield name, load_subject(str(examples / name))
    for cell in all_cells():
        plain = cell.kind in ("mlp", "conv") and cell.norm == "none" and cell.depth >= Case.min_depth
        if plain and group_of(cell) in GROUPS[:3]:
            yield cell.name, subject_of(cell)


def subject_of(cell: Cell) -> Subject:
    """A net with a batch of its data."""
    x, y = batch_of(cell)
    model = build(cell)
    target = Target(cell.name, None, cell.name)
    return Subject(model, for_model(model, x, None, 0), target, nn.functional.cross_entropy, y)


def main(wanted: Sequence[str]) -> int:
    """Verdicts, and the decades between the largest and the smallest output-gradient norm in a chain."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    kinds = {"all": InsertNorm("batch"), "fewest": InsertNorm("batch", "fewest")}
    found: list[dict[str, tuple[int, str, float]]] = []
    for name, subject in plain_nets():
        if wanted and not any(text in name for text in wanted):
            continue
        case = Case(subject.model, subject.inputs, read(subject.model, subject.inputs).structure)
        chains = [[block.name for block in c] for c in case.structure.chains if len(c) >= case.min_depth]
        captured, row = capture(subject.model, subject.inputs)[0], {}
        for kind, remedy in kinds.items():
            plan = remedy.plan(case)
            fixed = remedy.apply(captured, plan, case)
            row[kind] = (len(insertions_of(plan)), *probed(fixed, subject, chains))
        found.append(row)
        print(
            name,
            *(f"{kind}: {n} {word} {decades:.2f}" for kind, (n, word, decades) in row.items()),
            sep="; ",
            flush=True,
        )
    both = [row for row in found if row["all"][1] == "healthy"]
    kept = sum(row["fewest"][1] == "healthy" for row in both)
    norms = {kind: sum(row[kind][0] for row in found) for kind in kinds}
    print(f"{len(found)} nets: {norms['all']} norms behind every block, {norms['fewest']} as the fewest")
    print(f"healthy: {len(both)} with all norms, of which {kept} with the fewest")
    for kind in kinds:
        print(f"within a decade with {kind}: {sum(row[kind][2] < 1.0 for row in both)} of these {len(both)}")
    return 0


def probed(model: nn.Module, subject: Subject, chains: Sequence[Sequence[str]]) -> tuple[str, float]:
    """The verdict, and the largest spread of the gradient norm over a chain, in decades."""
    profile = gct.probe(model, subject.inputs, subject.loss_fn, subject.targets)
    norms = {layer.name: layer.output_grad_norm or 0.0 for layer in profile.layers}
    ends = [(min(norms[name] for name in chain), max(norms[name] for name in chain)) for chain in chains]
    return profile.verdict, max(math.log10(most / least) if least else math.inf for least, most in ends)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
