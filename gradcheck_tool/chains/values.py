"""What the analysis of a graph finds: the calls of weight layers, the blocks that they form, and the whole structure.

Values only; other rooms read them. What a block and a chain are, in words: docs/chains.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import fx

from gradcheck_tool.chains.dataflow import Flow
from gradcheck_tool.norms import Forms
from gradcheck_tool.ops import Operation
from gradcheck_tool.results import Location, Unanalyzed
from gradcheck_tool.sources import locate


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a weight layer: `name` is `fc1`, the second call's `fc1@2`; `parameter` is the qualified name of the
    weight; `module` that of the module where a module was called, None for a functional layer."""

    name: str
    layer: str
    parameter: str
    module: str | None
    node: fx.Node


@dataclass(frozen=True, eq=False)
class Trail:
    """The nodes behind a value, back to the activation of its last block."""

    node: fx.Node
    before: Trail | None = field(default=None, repr=False)


def walk_back(trail: Trail | None) -> Iterator[fx.Node]:
    """The nodes of a trail, the last first."""
    while trail is not None:
        yield trail.node
        trail = trail.before


@dataclass(frozen=True, eq=False)
class Block:
    """A weight-layer call whose output reaches an activation. `parent` is the block before it in its run, `level` the
    number of blocks of the run up to here."""

    call: Call
    activation: fx.Node
    activation_name: str
    parent: Block | None = field(repr=False)
    level: int
    trail: Trail | None = field(repr=False)
    inner: Trail | None = field(repr=False)

    @property
    def inside(self) -> list[fx.Node]:
        """The nodes between this block's call and its activation, both left out."""
        nodes = []
        for node in walk_back(self.inner):
            if node is self.call.node:
                break
            nodes.append(node)
        return nodes[::-1]

    @property
    def path(self) -> list[fx.Node]:
        """The nodes between the parent's activation and this block's call, both left out, in the order they ran."""
        return list(walk_back(self.trail))[::-1]

    @property
    def name(self) -> str:
        """The name of the call."""
        return self.call.name


@dataclass(frozen=True)
class Structure:
    """What the analysis of one graph found.

    `blocks` are the unnormalized blocks, each behind its parent, whose run goes on in it. `chains` are maximal runs,
    deepest first. `calls` are all weight-layer calls in their order; `activation_of` tells the activation that each
    reaches, through a normalization or not. `recurrent` are the layers that are stepped: called again on what came out
    of their own earlier call, with a new input added each time.
    """

    graph: fx.Graph
    operations: Mapping[fx.Node, Operation]
    flow: Flow = field(repr=False)
    calls: tuple[Call, ...]
    blocks: tuple[Block, ...]
    chains: tuple[tuple[Block, ...], ...]
    forms: Forms
    not_analyzed: tuple[Unanalyzed, ...]
    activation_of: Mapping[Call, fx.Node]
    recurrent: frozenset[str]

    @cached_property
    def reaches_output(self) -> frozenset[fx.Node]:
        """The nodes from which a path leads to the model's output."""
        reaching: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            if node.op == "output" or any(user in reaching for user in self.flow.users[node]):
                reaching.add(node)
        return frozenset(reaching)


def location_of(call: Call, births: Mapping[str, Location]) -> Location | None:
    """Where a weight layer is constructed, if that was seen, else where it is called."""
    born = births.get(call.module or call.layer)  # a subclass that calls F.linear itself is constructed somewhere too
    return born or call.node.meta.get("location") or locate(call.node.meta.get("where"))
