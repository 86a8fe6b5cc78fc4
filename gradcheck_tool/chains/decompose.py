"""The forest of blocks → chains: maximal runs, every block in exactly one."""

from __future__ import annotations

import networkx as nx

from gradcheck_tool.chains.values import Block


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
