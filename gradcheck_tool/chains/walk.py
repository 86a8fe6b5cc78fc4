"""One pass over a graph that carries a `Signal` along every edge and notes the blocks that it meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import fx

from gradcheck_tool.chains.dataflow import Flow, Source
from gradcheck_tool.chains.layers import Layers
from gradcheck_tool.chains.lookahead import bit_of, cuts, is_float
from gradcheck_tool.chains.signals import Draft, Signal, common_origin, union
from gradcheck_tool.chains.values import Call, Trail
from gradcheck_tool.norms import Forms, Tag
from gradcheck_tool.operands import bends, is_made_to_measure, meets_itself, selects
from gradcheck_tool.ops import Kind, Operation

_NOTHING = Signal()


class Walk:
    """The state of the pass; `run` makes it. Afterwards `drafts` holds the blocks by call, `signals` what is known of
    each node, `activation_of` the activation that each call reaches, `recurrent` the layers that are stepped."""

    def __init__(
        self,
        graph: fx.Graph,
        operations: Mapping[fx.Node, Operation],
        flow: Flow,
        layers: Layers,
        forms: Forms,
        attention: frozenset[fx.Node],
        next_layers: Mapping[fx.Node, int],
    ) -> None:
        self.graph = graph
        self.operations = operations
        self.flow = flow
        self.layers = layers
        self.forms = forms
        self.attention = attention
        self.next_layers = next_layers
        self.positions = {node: index for index, node in enumerate(graph.nodes)}
        self.signals: dict[fx.Node, Signal] = {}
        self.memory: dict[fx.Node, Signal] = {}
        self.drafts: dict[Call, Draft] = {}
        self.activation_of: dict[Call, fx.Node] = {}
        self.recurrent: set[str] = set()
        self.moved: dict[fx.Node, fx.Node] = {}
        self.given: dict[str, set[fx.Node]] = {}

    def run(self) -> None:
        """Walks the graph in the order in which it ran."""
        for node in self.graph.nodes:
            self.signals[node] = self._signal(node)
            if node in self.flow.writes:
                self._write(node)

    # -- one node -----------------------------------------------------------------------------------------------------

    def _signal(self, node: fx.Node) -> Signal:
        if node.op == "placeholder":
            return Signal(data=True, grad=is_float(node), origin=node)
        operation = self.operations.get(node)
        if operation is None or operation.kind in (Kind.ASSIGN, Kind.CONSTANT) or is_made_to_measure(operation):
            return _NOTHING
        known = [self._read(source) for source in self.flow.sources[node]]
        with_data = [signal for signal in known if signal.data]
        carrying = [signal for signal in (with_data or known) if signal.grad]
        call = self.layers.calls.get(node)
        data = bool(with_data)
        if operation.kind is Kind.PASSING and len(self.flow.sources[node]) == 1:
            source = self.flow.sources[node][0].node
            if operation.name not in ("getitem", "select", "narrow"):
                self.moved[node] = self.moved.get(source, source)
        if cuts(node, operation):
            origin = common_origin(with_data)
            return Signal(data, origin=origin or node, of_call=with_data[0].of_call if origin else None)
        if call is not None:
            return self._behind_weight(node, call, carrying, data)
        if operation.kind is Kind.EMBEDDING:
            return Signal(data, True, origin=node, trail=Trail(node))
        if not carrying:
            return Signal(data, origin=node)
        return self._behind(node, operation, carrying, with_data or carrying, union(known))

    def _read(self, source: Source) -> Signal:
        return self.memory[source.node] if source.memory else self.signals[source.node]

    def _write(self, node: fx.Node) -> None:
        """What the memory holds after a node wrote into it: the new value, joined with what is left of the old."""
        write = self.flow.writes[node]
        new = self.signals[node] if self.operations[node].kind is not Kind.ASSIGN else _NOTHING
        if write.value is not None:
            new = self._read(write.value)
        if cuts(node, self.operations[node]):
            new = Signal(new.data, origin=node)
        if write.before is not None:
            old = self._read(write.before)
            both = [signal for signal in (old, new) if signal.grad]
            new = self._merged(node, both, union(both), nonlinear=False) if len(both) == 2 else both[0] if both else new
        self.memory[node] = new

    def _behind(
        self, node: fx.Node, operation: Operation, carrying: list[Signal], with_data: list[Signal], shared: int
    ) -> Signal:
        """The signal behind a call that is no weight layer; into `carrying` a gradient flows."""
        kind, one = operation.kind, carrying[0]
        internal = node in self.forms.internal
        if node in self.forms.norms:
            norm = self.forms.norms[node]
            fed = self.signals[norm.base].fed
            if norm.activated is not None and fed is not None:  # EvoNorm normalizes and activates at once
                self.activation_of.setdefault(fed, norm.activated)
                fed = None
            return self._fresh(node, one, shared, fed=fed)
        if kind is Kind.SOFTMAX and node in self.attention:
            return self._joined(node, carrying, shared)
        if kind in (Kind.NORMALIZATION, Kind.SOFTMAX, Kind.RECURRENT, Kind.LOSS, Kind.OTHER) or (
            kind is Kind.STATISTIC and not internal
        ):
            return self._fresh(node, one, shared, fed=one.fed if kind is Kind.NORMALIZATION else None)
        if kind is Kind.ATTENTION or (kind is Kind.CONTRACTION and meets_itself(node)):
            return self._joined(node, carrying, shared)
        if internal and len(carrying) > 1:
            return self._joined(node, carrying, shared)
        if internal and kind not in (Kind.MIXING, Kind.STATISTIC):
            return self._passed(node, one, shared)
        if len(with_data) > 1:
            if kind in (Kind.MIXING, Kind.CONTRACTION):
                return self._passed(node, one, shared) if len(carrying) == 1 else self._joined(node, carrying, shared)
            nonlinear = kind in (Kind.PRODUCT, Kind.ACTIVATION) or selects(operation)
            return self._merged(node, with_data, shared, nonlinear)
        if kind is Kind.ACTIVATION or bends(node, operation, self._data_operand(node)):
            return self._activated(node, one, shared)
        if kind in (Kind.MIXING, Kind.STATISTIC, Kind.CONTRACTION):
            return replace(self._passed(node, one, shared), origin=node, of_call=one.pending, bent=False)
        return self._passed(node, one, shared)

    def _data_operand(self, node: fx.Node) -> fx.Node:
        parts = [part for part in node.all_input_nodes if self.signals[part].data or self.signals[part].grad]
        return parts[0] if parts else node

    # -- what can happen to a value -----------------------------------------------------------------------------------

    def _fresh(self, node: fx.Node, signal: Signal, shared: int, fed: Call | None = None) -> Signal:
        """Behind a normalization or an op that is not understood: no block goes on."""
        return Signal(signal.data, True, origin=node, shared=shared, fed=fed, trail=Trail(node))

    def _passed(self, node: fx.Node, signal: Signal, shared: int) -> Signal:
        return replace(signal, shared=shared, trail=Trail(node, signal.trail))

    def _merged(self, node: fx.Node, signals: list[Signal], shared: int, nonlinear: bool) -> Signal:
        """Behind an op on several tensors. If all come elementwise from one value it is a function of that value: an
        activation where it is nonlinear, and else no more than a passing op. Otherwise it is a join."""
        carrying = [signal for signal in signals if signal.grad]
        one = next((signal for signal in carrying if signal.bent), carrying[0])
        if common_origin(signals) is not None:
            if nonlinear or any(signal.bent for signal in signals):
                return self._activated(node, one, shared, last=True)
            return self._passed(node, one, shared)
        if len(carrying) == 1:
            return self._passed(node, carrying[0], shared)
        form = self.forms.of.get(node) if self.operations[node].kind is Kind.SUM else None
        if form is not None and form.tag is Tag.VALUE and form.base is not node:  # x − mean(x) is linear in x
            return replace(self._passed(node, carrying[0], shared), origin=node, of_call=carrying[0].pending)
        return self._joined(node, carrying, shared)

    def _activated(self, node: fx.Node, signal: Signal, shared: int, last: bool = False) -> Signal:
        """Behind a nonlinear function: if a layer's output came here through passing ops alone, that is a block.
        `last`: the function is spelled out in several ops, of which this is the last so far."""
        if signal.fed is not None:
            self.activation_of.setdefault(signal.fed, node)
        call = signal.pending or (signal.of_call if last else None)
        passed = replace(self._passed(node, signal, shared), bent=True, fed=None)
        if call is None:
            return passed
        draft = self.drafts.get(call)
        if draft is None:
            before = signal.entry or _NOTHING
            if before.run is not None and not before.run.has_children:
                before.run.has_children = True
                before.run.activation = before.closed_by or before.run.activation
            level = before.level + 1
            draft = self.drafts[call] = Draft(call, node, before.run, level, before.trail, signal.trail, [], [])
        draft.closed.append(node)
        draft.operations.append(self.operations[node])
        if last and not draft.has_children:
            draft.activation = self.activation_of[call] = node
        return replace(passed, run=draft, closed_by=node, pending=None, trail=None)

    def _joined(self, node: fx.Node, carrying: Sequence[Signal], shared: int) -> Signal:
        """Behind an op on several tensors that depend on the input: the run that goes on is that with the fewest blocks
        so far; in a recurrence it is the one through the earlier call."""
        trail = Trail(node)
        if len(carrying) > 1:
            stepped = self._stepped(carrying)
            if stepped is not None:
                of = stepped.pending
                return replace(
                    stepped, origin=node, of_call=of, bent=False, shared=shared, trail=Trail(node, stepped.trail)
                )
            about_to = self._about_to_step(node, carrying)
            if about_to is not None:
                trail = Trail(node, about_to.trail)
                return Signal(
                    about_to.data, True, about_to.run, about_to.closed_by, origin=node, shared=shared, trail=trail
                )
        chosen = min(carrying, key=self._order)
        trail = Trail(node, chosen.trail)
        return Signal(chosen.data, True, chosen.run, chosen.closed_by, origin=node, shared=shared, trail=trail)

    def _order(self, signal: Signal) -> tuple[int, int]:
        return signal.level, -1 if signal.run is None else self.positions[signal.run.call.node]

    # -- recurrences --------------------------------------------------------------------------------------------------

    def _stepped(self, carrying: Sequence[Signal]) -> Signal | None:
        """The operand that went through an earlier step, in a sum such as a(x_t) + b(h): the output of a layer that was
        called on what came out of its own earlier call, while the other operands have not been through it."""
        again = [
            signal for signal in carrying if self._comes_again(signal) or self._comes_after_first(signal, carrying)
        ]
        if len(again) != 1 or again[0].pending is None:
            return None
        bit = bit_of(again[0].pending.layer, self.layers)
        if any(signal.shared & bit for signal in carrying if signal is not again[0]):
            return None
        self.recurrent.update(signal.pending.layer for signal in carrying if signal.pending)
        return again[0]

    def _comes_again(self, signal: Signal) -> bool:
        """Whether a value is a layer's output that was computed from an earlier output of the same layer."""
        call = signal.pending
        return (
            call is not None
            and signal.entry is not None
            and bool(signal.entry.shared & bit_of(call.layer, self.layers))
        )

    def _comes_after_first(self, signal: Signal, carrying: Sequence[Signal]) -> bool:
        """Whether a value is the first b(h) of a recurrence whose first step was a(x) alone: a is called again beside
        it, and lies behind it."""
        call = signal.pending
        if call is None or not bit_of(call.layer, self.layers):
            return False
        beside = [other.pending for other in carrying if other is not signal and other.pending is not None]
        return any(signal.shared & bit_of(other.layer, self.layers) for other in beside)

    def _about_to_step(self, node: fx.Node, carrying: Sequence[Signal]) -> Signal | None:
        """The operand that went through an earlier step, in a join before the layer, such as fc(cat(x_t, h)): it alone
        has been through the layer that comes next, and what it is joined with was never given to that layer before (as
        the shortcut around a layer was)."""
        bits = self.next_layers.get(node, 0)
        again = [signal for signal in carrying if signal.shared & bits] if bits else []
        if len(again) != 1:
            return None
        stepped = [layer for layer in self.layers.repeated if again[0].shared & bits & bit_of(layer, self.layers)]
        for source in self.flow.sources[node]:
            if self._read(source) is not again[0] and any(
                self.moved.get(source.node, source.node) in self.given.get(layer, ()) for layer in stepped
            ):
                return None
        self.recurrent.update(stepped)
        return again[0]

    # -- weight layers ------------------------------------------------------------------------------------------------

    def _behind_weight(self, node: fx.Node, call: Call, carrying: list[Signal], data: bool) -> Signal:
        into = carrying[0] if carrying else Signal(data)
        if len(carrying) > 1:  # Bilinear
            into = self._joined(node, carrying, union(carrying))
        bit = bit_of(call.layer, self.layers)
        if bit:
            sources = (source.node for source in self.flow.sources[node])
            self.given.setdefault(call.layer, set()).update(self.moved.get(part, part) for part in sources)
        return Signal(
            data,
            True,
            into.run,
            into.closed_by,
            pending=call,
            entry=into,
            origin=node,
            of_call=call,
            shared=into.shared | bit if into.shared & bit != bit else into.shared,
            fed=call,
            trail=Trail(node, into.trail),
        )
