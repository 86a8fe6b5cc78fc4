"""Which blocks of a model a remedy covers: those of its deep chains, but for what it cannot treat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from gradcheck_tool.chains import Block, Structure, decompose, forest
from gradcheck_tool.results import Skip

if TYPE_CHECKING:
    import networkx as nx

T = TypeVar("T")


def treat(
    structure: Structure, min_depth: int, ask: Callable[[Block], T | Skip], only: Collection[str] | None = None
) -> dict[Block, T | Skip]:
    """What `ask` says to each block of every chain of at least `min_depth`, or where given, of those named in `only`; a
    `Skip` says that it cannot be treated.

    Where a block in front of a fork is skipped, its run goes on along another way once the first way is treated: that
    is asked too, so that there is nothing left to do afterwards.
    """
    if only is not None:
        return {block: ask(block) for block in structure.blocks if block.name in only}
    answers: dict[Block, T | Skip] = {}
    if not structure.blocks:
        return answers
    left = forest(structure.blocks)
    while wanted := _in_chains(left, min_depth) - answers.keys():
        answers |= {block: ask(block) for block in wanted}
        left.remove_nodes_from([block for block in wanted if not isinstance(answers[block], Skip)])
    return {block: answers[block] for block in structure.blocks if block in answers}


def _in_chains(blocks: nx.DiGraph, min_depth: int) -> set[Block]:
    return {block for chain in decompose(blocks) if len(chain) >= min_depth for block in chain}


def covered(chains: Sequence[Sequence[Block]], min_depth: int) -> list[list[str]]:
    """The layer names of the chains that a fix covers: what before and after are measured over."""
    return [[block.name for block in chain] for chain in chains if len(chain) >= min_depth]
