"""What is known of a node's value while the graph is walked: the run that it belongs to, the layer it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import fx

from gradcheck_tool.chains.values import Block, Call, Trail
from gradcheck_tool.ops import Kind, Operation


@dataclass(eq=False)
class Draft:
    """A block in the making. Until a block follows, its `activation` is the last node of the function that its layer's
    output goes through: in `h * sigmoid(h)` the product. `closed` are all activations that the output reaches."""

    call: Call
    activation: fx.Node
    parent: Draft | None = field(repr=False)
    level: int
    trail: Trail | None = field(repr=False)
    inner: Trail | None = field(repr=False)
    closed: list[fx.Node]
    operations: list[Operation]
    has_children: bool = False

    def block(self, parent: Block | None) -> Block:
        """The finished block behind the finished `parent`."""
        return Block(self.call, self.activation, self.name, parent, self.level, self.trail, self.inner)

    @property
    def name(self) -> str:
        """`relu`; of a function that forward spells out, its last op and the activations in it: `mul(sigmoid)`."""
        at = self.closed.index(self.activation)
        last = self.operations[at].name
        inner = dict.fromkeys(op.name for op in self.operations[:at] if op.kind is Kind.ACTIVATION)
        return f"{last}({', '.join(inner)})" if inner else last


@dataclass(frozen=True, eq=False)
class Signal:
    """What is known of a node's value.

    `data`: it depends on the input; `grad`: and a gradient flows back that way. `run`: the last block of its run, and
    `closed_by` the activation that closed it on this way. `pending`: the weight-layer call whose output it is, through
    passing ops alone; `entry`: the signal that went into that call. `origin`: the node of which it is an elementwise
    function, `of_call` the call whose output the origin is, and `bent` tells whether that function is nonlinear.
    `shared`: the repeated layers that lie behind it, as bits. `fed`: the call whose output this still is, through
    passing ops and normalizations. `trail`: the nodes back to the activation of the last block.
    """

    data: bool = False
    grad: bool = False
    run: Draft | None = None
    closed_by: fx.Node | None = None
    pending: Call | None = None
    entry: Signal | None = field(default=None, repr=False)
    origin: fx.Node | None = None
    of_call: Call | None = None
    bent: bool = False
    shared: int = 0
    fed: Call | None = None
    trail: Trail | None = field(default=None, repr=False)

    @property
    def level(self) -> int:
        """The number of blocks of the run so far."""
        return 0 if self.run is None else self.run.level


def union(signals: Iterable[Signal]) -> int:
    """The repeated layers that lie behind any of several values."""
    bits = 0
    for signal in signals:
        if signal.shared | bits != bits:
            bits = signal.shared | bits
    return bits


def common_origin(signals: Sequence[Signal]) -> fx.Node | None:
    """The node of which all of several values are elementwise functions; None where there is no such node."""
    origin = signals[0].origin if signals else None
    return origin if all(signal.origin is origin for signal in signals) else None
