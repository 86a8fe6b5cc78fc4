"""Shortcuts around the blocks of a plain chain, so that a deep net starts as the identity and learns what to add to it:
y = x + α f(x), α a new parameter that starts at zero (ReZero: Bachlechner et al. 2020, ReZero is all you need, section
3; the shortcuts: He et al. 2016, Deep residual learning).

A block is here all that lies between what weight layers read and what the next ones read, or what is pooled, flattened
or otherwise moved on the way to them: activation, gate, dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, Structure, analyze, location_of
from gradcheck_tool.ops import Kind, is_tensor
from gradcheck_tool.remedy.base import Case, Plan, Step
from gradcheck_tool.remedy.factors import multiplied, new_factor
from gradcheck_tool.remedy.layers import shared_copy
from gradcheck_tool.results import Location, Skip

_KEEPING = """
    dropout dropout1d dropout2d dropout3d alpha_dropout alphadropout feature_alpha_dropout featurealphadropout
    feature_dropout native_dropout identity contiguous clone to type type_as float half double bfloat16 chunk
    unsafe_chunk split unsafe_split tensor_split getitem neg negative nan_to_num"""
_KEEPS_PLACES = frozenset(_KEEPING.split())
"""Passing ops behind which an element stands for the same unit and position as before, where the shape is the same: a
gate's halves are cut apart by `chunk`."""
_THROUGH = (Kind.ACTIVATION, Kind.NORMALIZATION, Kind.SUM, Kind.PRODUCT, Kind.SOFTMAX, Kind.STATISTIC)


@dataclass(frozen=True)
class Shortcut:
    """A shortcut around the block that begins with the call of `layer`, with a new factor of 0 at the block's end."""

    layer: str
    location: Location | None

    def __str__(self) -> str:
        return f"a shortcut around the block of {self.layer}, which starts at zero"


@dataclass(frozen=True)
class AddShortcuts:
    """The remedy `add-shortcuts`: in chains of at least `min_depth` blocks, and where the model has so many normalized
    ones, around each that keeps the shape."""

    name: str = "add-shortcuts"
    title: str = "shortcuts around the blocks, which start at zero"
    breaks: tuple[str, ...] = (
        "The state dict has a new key for each block: load an old checkpoint with strict=False.",
        "The function changes: a trained model gives other outputs until it is trained again.",
    )

    def plan(self, case: Case) -> Plan:
        """The blocks that a shortcut can lead around: one value comes in, which weight layers of the block alone read,
        and one of the same shape goes out."""
        steps: list[Step] = []
        skipped: list[Skip] = []
        for call, end in _blocks(case.structure, case.min_depth):
            if isinstance(end, str):
                skipped.append(Skip(call.name, end))
            else:
                steps.append(Shortcut(call.name, location_of(call, case.births)))
        return Plan(tuple(steps), tuple(skipped))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with the shortcuts of the plan; all its tensors are shared.

        Raises:
            KeyError: the plan names a block that the graph does not have.
        """
        fixed = shared_copy(captured)
        places = [blocks_with_a_shortcut(analyze(graph, fixed), case.min_depth) for graph in fixed.graphs]
        for step in plan.steps:
            assert isinstance(step, Shortcut)
            here = [found[step.layer] for found in places if step.layer in found]
            if not here:
                raise KeyError(f"no block of {step.layer} in the captured graph")
            name = new_factor(fixed, here[0][0], 0.0)
            for call, end in here:
                _lead_around(call, end, name)
        return fixed.checked()


def blocks_with_a_shortcut(structure: Structure, min_depth: int = 1) -> dict[str, tuple[Call, fx.Node]]:
    """The blocks that a shortcut can lead around: the call that each begins with, by its name, and the node that it
    ends in."""
    blocks = _blocks(structure, min_depth)
    return {call.name: (call, end) for call, end in blocks if isinstance(end, fx.Node)}


def _lead_around(call: Call, end: fx.Node, name: str) -> None:
    """Adds what a block reads, which may have got a shortcut of its own by now, to what comes out of it."""
    start = _read_by(call)[0]
    with end.graph.inserting_after(end):
        total = end.graph.create_node("call_function", torch.add, (start, end))
    total.meta.update({key: end.meta[key] for key in ("shape", "dtype") if key in end.meta})
    end.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)
    total.args = (start, multiplied(end, name, total))


def _read_by(call: Call) -> list[fx.Node]:
    return [node for node in call.node.all_input_nodes if node.op != "get_attr"]


def _blocks(structure: Structure, min_depth: int) -> Iterator[tuple[Call, fx.Node | str]]:
    """The calls of the chains, and those with a norm before their activation, with which a block begins, in the order
    in which they ran, each with the node that the block ends in or with why a shortcut cannot lead around it. Where
    several read one value, as those of a gate and of what it gates, the block is the first one's. Each node lies in one
    block, so that the time is linear in the graph."""
    chained = {block.call for chain in structure.chains if len(chain) >= min_depth for block in chain}
    plain = {block.call for block in structure.blocks}
    normalized = [call for call in structure.calls if call in structure.activation_of and call not in plain]
    chained.update(normalized if len(normalized) >= min_depth else ())
    finder = _Finder(structure)
    begun: set[fx.Node] = set()
    for call in structure.calls:
        if call in chained and call.node not in begun:
            beginning = finder.beginning(call)
            begun.update(beginning)
            yield call, finder.end_of(call, beginning)


class _Finder:
    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.calls = {call.node: call for call in structure.calls}

    def beginning(self, call: Call) -> list[fx.Node]:
        """The weight-layer calls that read what `call` reads, itself among them."""
        data = self._data(call.node)
        readers = self._readers(data[0]) if len(data) == 1 else []
        return readers if all(reader in self.calls for reader in readers) and call.node in readers else [call.node]

    def end_of(self, call: Call, beginning: list[fx.Node]) -> fx.Node | str:
        """The end of the block that begins with some calls, `call` the first of them, or why it has no shortcut."""
        flow, starts = self.structure.flow, {part for node in beginning for part in _read_by(self.calls[node])}
        if any(self.calls[node].layer in self.structure.recurrent for node in beginning):
            return "it is a step of a recurrence"
        if len(starts) != 1 or any(len(self._data(node)) != 1 for node in beginning):
            return "it reads more than one value"
        if set(self._readers(self._data(call.node)[0])) != set(beginning):
            return "what it reads goes elsewhere too, as around a shortcut"
        inside = self._inside(beginning)
        if isinstance(inside, str):
            return inside
        end, nodes = inside
        (start,) = starts
        if start.meta.get("shape") != end.meta.get("shape") or start.meta.get("dtype") != end.meta.get("dtype"):
            return "what comes out of its block is of another shape than what goes in"
        if any(flow.roots[node] is flow.roots[start] for node in nodes if node in flow.writes):
            return "its block overwrites what it reads"
        return end

    def _data(self, node: fx.Node) -> list[fx.Node]:
        return [source.node for source in self.structure.flow.sources[node] if source.node.op != "get_attr"]

    def _readers(self, node: fx.Node) -> list[fx.Node]:
        """What a value goes to on its way to the output; those that read its sizes alone are left out."""
        users, operations = self.structure.flow.users[node], self.structure.operations
        reading = [user for user in users if user not in operations or operations[user].kind is not Kind.CONSTANT]
        return [user for user in reading if user in self.structure.reaches_output]

    def _inside(self, beginning: list[fx.Node]) -> tuple[fx.Node, set[fx.Node]] | str:
        """The one node behind some calls that the next weight layers read, or what moves its values on the way to them,
        and all nodes up to there; or why there is none."""
        seen, pending = set(beginning), list(beginning)
        ends: dict[fx.Node, None] = {}
        while pending:
            node = pending.pop()
            for user in self._readers(node):
                if user.op == "output":
                    return "its block goes to the model's output"
                if user in self.calls and node not in user.all_input_nodes:
                    return "its block is written in place, under another name"
                if user in self.calls or self._moves_on(node, user):
                    ends[node] = None
                elif user not in seen:
                    seen.add(user)
                    pending.append(user)
        if len(ends) != 1:
            return "its block has more than one end"
        (end,) = ends
        if end in beginning:
            return "its block moves values to other places"
        if not is_tensor(end) or any(user in seen for user in self._readers(end)):
            return "its block has more than one end"
        return end, seen

    def _moves_on(self, node: fx.Node, user: fx.Node) -> bool:
        """Whether behind `user` an element stands for another unit or position than one of `node`, which it reads; the
        mean that a norm subtracts is no pooling."""
        operation = self.structure.operations.get(user)
        if operation is None:
            return True
        if operation.kind is Kind.MIXING:
            return self._readers(node) == [user] and user.meta.get("shape") != node.meta.get("shape")
        return operation.kind not in _THROUGH and operation.name.lower() not in _KEEPS_PLACES
