"""`fix --insert-bn` against batch norm put in by hand: untrainable cells, trained with the one and with the other.

By hand means the cell's own builder, with an `nn.BatchNorm` between each weight layer and its activation that has no
norm there: nothing of gradcheck_tool. The weights are the same, to the bit.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tabulate import tabulate
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

import gradcheck_tool as gct
from gradcheck_tool.results import FixResult
from ground_truth.blocks import Cell
from ground_truth.cells import GROUPS, group_of
from ground_truth.judging import batch_of, best_of, outcome
from ground_truth.nets import build

ENDS = ("learns", "half", "not")
ELSEWHERE = ("attention", "attention-post", "mixer", "recurrent", "recurrent-long")
"""Kinds of nets in which a person would put norms in other places: before or behind the branches of transformers and
mixers, and over the steps of recurrent nets each on its own."""


def norms_in(net: nn.Module) -> int:
    """How many batch norms it has."""
    return sum(isinstance(module, _BatchNorm) for module in net.modules())


def by_hand(cell: Cell) -> nn.Module:
    """The cell's net with batch norm as a person would write it; as it is where a norm stands everywhere already, and
    in the kinds that are `ELSEWHERE`."""
    return build(replace(cell, by_hand=True))


def by_fix(cell: Cell, min_depth: int = 4) -> FixResult:
    """What `fix --insert-bn` makes of the cell's net, in chains of at least so many blocks."""
    x, y = batch_of(cell)
    return gct.fix(build(cell), x, loss_fn=cross_entropy, targets=y, norm="batch", min_depth=min_depth)


@dataclass(frozen=True)
class Pair:
    """A cell trained both ways: the norms of each, the best shares of the way from chance to all right, and what these
    are called. `min_depth`: blocks of a chain from which on fix inserts. `by_fix` is "no norms" where it inserts
    none at all, and `by_hand` where a person would put none."""

    cell: Cell
    min_depth: int
    norms_by_hand: int
    norms_by_fix: int
    by_hand: str
    by_fix: str
    shares: str
    verdict: str

    @property
    def group(self) -> str:
        """The group of the cell."""
        return group_of(self.cell)


def trained_both_ways(cell: Cell) -> Pair:
    """Takes chains of four blocks and more, as fix does by default, and shorter ones where there is none."""
    min_depth = 4
    result = by_fix(cell, min_depth)
    if not result.plan:
        min_depth = 1
        result = by_fix(cell, min_depth)
    norms = norms_in(by_hand(cell)) - norms_in(build(cell))
    hand, fix, shares = "no norms", "no norms", ["-", "-"]
    if norms:
        run = best_of(cell, lambda: by_hand(cell))
        hand, shares[0] = outcome(run), f"{run.share:.3f}"
    if result.plan:
        run = best_of(cell, lambda: copy.deepcopy(result.model))
        fix, shares[1] = outcome(run), f"{run.share:.3f}"
    verdict = result.after.verdict if result.after else "-"
    return Pair(cell, min_depth, norms, len(result.plan), hand, fix, " ".join(shares), verdict)


def compare(cells: Iterable[Cell]) -> int:
    """Prints each cell as it is done, then the tables; 1 if one that learns with batch norm by hand does not with what
    fix inserts by default."""
    pairs = []
    for cell in cells:
        pair = trained_both_ways(cell)
        pairs.append(pair)
        norms = f"{pair.norms_by_hand} and {pair.norms_by_fix} norms"
        depth = "" if pair.min_depth == 4 else f" (chains of {pair.min_depth})"
        print(
            f"{pair.by_hand:8} {pair.by_fix:8} {pair.shares}  {norms}{depth}, {pair.verdict}  {cell.name}", flush=True
        )
    deep = [pair for pair in pairs if pair.min_depth == 4]
    short = [pair for pair in pairs if pair.min_depth < 4]
    print("\nfix inserts norms, and so would a person\n")
    _cross([pair for pair in deep if pair.norms_by_hand])
    print("\nfix inserts none by default; with --min-depth 1\n")
    _cross([pair for pair in short if pair.norms_by_hand])
    left = [pair for pair in pairs if not pair.norms_by_hand]
    there = Counter("they belong elsewhere" if pair.cell.kind in ELSEWHERE else "each block has one" for pair in left)
    print("\na person would put no norm between layer and activation:", *(f"{n} ({why})" for why, n in there.items()))
    lost = [pair for pair in pairs if pair.by_hand == "learns" and pair.by_fix != "learns"]
    won = [pair for pair in pairs if pair.by_fix == "learns" and pair.by_hand != "learns"]
    for title, found in (("by hand learns, by fix does not", lost), ("by fix learns, by hand does not", won)):
        print(f"\n{title}: {len(found)}")
        for pair in found:
            print(f"  {pair.shares}  {pair.norms_by_hand} and {pair.norms_by_fix} norms  {pair.cell.name}")
    return 1 if any(pair.min_depth == 4 for pair in lost) else 0


def _cross(pairs: list[Pair]) -> None:
    """By group: what comes of batch norm by hand, a line each, against what comes of fix, a column each."""
    counts = Counter((pair.group, pair.by_hand, pair.by_fix) for pair in pairs)
    ways = [end for end in (*ENDS, "no norms") if any(fix == end for _, _, fix in counts)]
    rows = [
        (group, f"by hand {hand}", *(counts[group, hand, fix] for fix in ways))
        for group in GROUPS
        for hand in ENDS
        if any(counts[group, hand, fix] for fix in ways)
    ]
    rows += [("all", f"by hand {hand}", *(sum(counts[g, hand, fix] for g in GROUPS) for fix in ways)) for hand in ENDS]
    print(tabulate(rows, ("", "", *(f"by fix {fix}" for fix in ways))))
