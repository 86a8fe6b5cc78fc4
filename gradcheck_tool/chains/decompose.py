"""The forest of blocks → chains: maximal runs, every block in exactly one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradcheck_tool.chains.values import Block

if TYPE_CHECKING:
    import networkx as nx


def forest(blocks: Sequence[Block]) -> nx.DiGraph:
    """The DAG whose nodes are `blocks` and whose edges lead from each to those whose run goes on from it."""
    import networkx as nx  # not above: it takes a tenth of the time of torch, and most models have no block

    graph = nx.DiGraph()
    graph.add_nodes_from(blocks)
    graph.add_edges_from((block.parent, block) for block in blocks if block.parent is not None)
    return graph


def decompose(blocks: nx.DiGraph) -> tuple[tuple[Block, ...], ...]:
    """Cuts the forest of blocks into chains: where a path forks, the longest continuation keeps the run (at a tie the
    one computed first), the others begin chains of their own. Deepest first, then in the order of computation."""
    order = list(blocks)  # in the order of the graph: parents come before their children
    longest: dict[Block, int] = {}
    onward: dict[Block, Block | None] = {}
    for parent in reversed(order):
        best: Block | None = None
        for child in blocks.successors(parent):
            if best is None or longest[child] > longest[best]:
                best = child
        onward[parent] = best
        longest[parent] = 1 + (longest[best] if best is not None else 0)
    continues = {child for child in onward.values() if child is not None}
    chains = []
    for start in order:
        if start not in continues:
            chain: list[Block] = []
            block: Block | None = start
            while block is not None:
                chain.append(block)
                block = onward[block]
            chains.append(tuple(chain))
    return tuple(sorted(chains, key=len, reverse=True))
