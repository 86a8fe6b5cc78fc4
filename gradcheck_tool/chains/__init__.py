"""A recorded graph → its blocks, a networkx DAG, and the chains that they form.

The passes, one a file: who reads what (dataflow), which calls are weight layers (layers), what lies ahead (lookahead),
the run along every edge (walk), and the forest of blocks cut into chains (decompose). In words: docs/chains.md.
"""

from __future__ import annotations

from torch import fx, nn

from gradcheck_tool.chains import lookahead
from gradcheck_tool.chains.dataflow import trace
from gradcheck_tool.chains.decompose import decompose, forest
from gradcheck_tool.chains.layers import find_layers, spatial_dims
from gradcheck_tool.chains.signals import Draft
from gradcheck_tool.chains.unknown import not_analyzed
from gradcheck_tool.chains.values import Block, Call, Structure, Trail, location_of
from gradcheck_tool.chains.walk import Walk
from gradcheck_tool.norms import find_norms
from gradcheck_tool.ops import lookup

__all__ = ["Block", "Call", "Structure", "Trail", "analyze", "decompose", "forest", "location_of", "spatial_dims"]


def analyze(graph: fx.Graph, model: nn.Module) -> Structure:
    """Finds the blocks and chains of a graph that the recorder wrote, in time linear in its nodes.

    Args:
        graph: with shapes on its nodes.
        model: the model that was recorded; its modules and the names of its parameters are read.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    is_call = ("call_module", "call_function", "call_method")
    operations = {node: lookup(node, modules) for node in graph.nodes if node.op in is_call}
    flow = trace(graph, operations, modules)
    layers = find_layers(graph, operations, flow, model)
    forms = find_norms(operations, layers.depends, lookahead.find_live(graph, operations, flow), flow)
    attention = lookahead.find_attention(graph, operations, flow, layers)
    walk = Walk(
        graph, operations, flow, layers, forms, attention, lookahead.find_next_layers(graph, operations, flow, layers)
    )
    walk.run()
    heads = lookahead.find_heads(graph, operations, flow, layers, modules)
    reached = lookahead.find_reached(graph, operations, flow)
    drafts = [
        draft
        for draft in sorted(walk.drafts.values(), key=lambda draft: walk.positions[draft.call.node])
        if not heads.issuperset(draft.closed) and not reached.isdisjoint(draft.closed)
    ]
    blocks = _blocks(drafts)
    return Structure(
        graph=graph,
        operations=operations,
        flow=flow,
        calls=tuple(layers.calls.values()),
        blocks=blocks,
        chains=decompose(forest(blocks)) if blocks else (),
        forms=forms,
        not_analyzed=tuple(not_analyzed(walk, heads)),
        activation_of=walk.activation_of,
        recurrent=frozenset(walk.recurrent),
    )


def _blocks(drafts: list[Draft]) -> tuple[Block, ...]:
    """The finished blocks, parents before their children."""
    finished: dict[Draft, Block] = {}
    for draft in drafts:
        parent = finished.get(draft.parent) if draft.parent is not None else None
        finished[draft] = draft.block(parent)
    return tuple(finished.values())
