"""What a patch is worked out from: the planned norms, where in the user's files each layer is made and called, and the
sources of those files. Changes are gathered here, file by file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType

import libcst as cst
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from gradcheck_tool.chains import Block, Call, Structure
from gradcheck_tool.remedy.patch.imports import imported
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.source import Source, Splice
from gradcheck_tool.results import Insertion
from gradcheck_tool.sources import Stack, Where, locate, rank

Spot = tuple[str, int, int, int, int]
"""A file, and the lines and columns of an expression in it: one place in the source, whatever runs there."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a weight layer. `is_module` tells a layer that is a module (torch's own, or one whose forward calls a
    function with its own `weight`) from a bare parameter. `holder` is the module of which the layer is the attribute
    (or the element) `attribute`, `parent` its name; `stack` is what was running when the layer was made."""

    call: Call
    is_module: bool
    parent: str
    attribute: str
    holder: nn.Module
    stack: Stack

    @property
    def layer(self) -> str:
        """The qualified name of the layer, or of the functional layer's parameter without `.weight`."""
        return self.call.layer

    @property
    def called(self) -> Where | None:
        """The point in the source at which the layer is called."""
        return self.call.node.meta.get("where")


@dataclass(frozen=True, eq=False)
class Wanted(Layer):
    """One norm that is to be inserted, behind the call of a layer."""

    insertion: Insertion
    block: Block

    @property
    def activated(self) -> Where | None:
        """The point in the source at which the activation behind it is called."""
        return self.block.activation.meta.get("where")


@dataclass(frozen=True)
class Made:
    """An expression that was running when a layer was made: the constructor, or a call around it; and in which code."""

    source: Source
    node: cst.BaseExpression
    code: CodeType
    spot: Spot


def is_weight_layer(module: nn.Module) -> bool:
    """Whether a module is a weight layer of torch or a subclass of one."""
    return isinstance(module, (nn.Linear, nn.Bilinear, _ConvNd))


class Scene:
    """Everything that is known, looked up lazily."""

    def __init__(
        self, model: nn.Module, structure: Structure, plan: Sequence[Insertion], origins: Mapping[str, Stack]
    ) -> None:
        self.model = model
        self.structure = structure
        self.origins = origins
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self._sources: dict[str, Source] = {}
        self._splices: dict[str, list[Splice]] = defaultdict(list)
        self._required: dict[str, list[str]] = defaultdict(list)
        blocks = {block.name: block for block in structure.blocks}
        planned = [self._wanted(insertion, blocks[insertion.after]) for insertion in plan]
        self.planned_calls = {wanted.call for wanted in planned}
        self.planned_activations = {wanted.block.activation for wanted in planned}
        self.wanted = self._without_steps(planned)

    def layer(self, call: Call) -> Layer:
        """Where the layer that is called belongs to."""
        is_module = call.module is not None or (call.layer in self.modules and call.layer != "")
        name = call.layer if is_module else call.parameter
        parent, _, attribute = name.rpartition(".")
        return Layer(call, is_module, parent, attribute, self.modules[parent], self.origins.get(name, ()))

    def _wanted(self, insertion: Insertion, block: Block) -> Wanted:
        return Wanted(**vars(self.layer(block.call)), insertion=insertion, block=block)

    def _without_steps(self, planned: Sequence[Wanted]) -> list[Wanted]:
        """One for each norm: the steps of a recurrence, which all come through one place, share theirs."""
        seen: set[tuple[str, Spot | None]] = set()
        kept = []
        for wanted in planned:
            place = (wanted.layer, self.spot(wanted.called))
            if wanted.layer not in self.structure.recurrent or place not in seen:
                kept.append(wanted)
            seen.add(place)
        return kept

    # -- places -------------------------------------------------------------------------------------------------------

    def source(self, filename: str) -> Source:
        """The parsed file.

        Raises:
            Refused: it is none of the user's, or cannot be read.
        """
        if filename not in self._sources:
            if rank(filename) != 0 or not Path(filename).is_file():
                raise Refused(f"{filename} is not a source file of yours")
            self._sources[filename] = Source(Path(filename))
        return self._sources[filename]

    def node_at(self, where: Where | None) -> tuple[Source, cst.BaseExpression] | None:
        """The expression at a point in running code; None where that is none of the user's."""
        if where is None or rank(where[0].co_filename) != 0 or not Path(where[0].co_filename).is_file():
            return None
        location = locate(where)
        source = self.source(where[0].co_filename)
        node = source.at(location) if location is not None else None
        return None if node is None else (source, node)

    def spot(self, where: Where | None) -> Spot | None:
        """The place in the source of a point in running code."""
        location = locate(where)
        if where is None or location is None:
            return None
        return (where[0].co_filename, location.line, location.column, location.end_line, location.end_column)

    def made(self, stack: Stack) -> Iterator[Made]:
        """The expressions that were running when a layer was made, the constructor first."""
        for where in stack:
            found, spot = self.node_at(where), self.spot(where)
            if found is not None and spot is not None:
                yield Made(*found, where[0], spot)

    # -- who shares a place -------------------------------------------------------------------------------------------

    @cached_property
    def _called_at(self) -> Mapping[Spot | None, list[Call]]:
        places: dict[Spot | None, list[Call]] = defaultdict(list)
        for call in self.structure.calls:
            places[self.spot(call.node.meta.get("where"))].append(call)
        return places

    @cached_property
    def calling(self) -> frozenset[cst.BaseExpression]:
        """The expressions that call weight layers."""
        found = (self.node_at(call.node.meta.get("where")) for call in self.structure.calls)
        return frozenset(pair[1] for pair in found if pair is not None)

    def calls_at(self, where: Where | None) -> list[Call]:
        """All calls of weight layers that one place in the source makes."""
        return self._called_at[self.spot(where)]

    def serves_planned_alone(self, where: Where | None) -> bool:
        """Whether every activation that one place in the source calls is that of a planned block, once for each."""
        acting = self._operations_at[self.spot(where)]
        return bool(acting) and acting <= self.planned_activations

    def operations_at(self, where: Where | None) -> set[fx.Node]:
        """The operations that one place in the source calls."""
        return self._operations_at[self.spot(where)]

    @cached_property
    def _operations_at(self) -> Mapping[Spot | None, set[fx.Node]]:
        places: dict[Spot | None, set[fx.Node]] = defaultdict(set)
        for node in self.structure.operations:
            places[self.spot(node.meta.get("where"))].add(node)
        return places

    @cached_property
    def _made_at(self) -> Mapping[Spot | None, list[str]]:
        places: dict[Spot | None, list[str]] = defaultdict(list)
        for name, module in self.model.named_modules():
            for spot in {self.spot(where) for where in self.origins.get(name, ())}:
                if spot is not None and module is not self.model:
                    places[spot].append(name)
        return places

    def made_at(self, spot: Spot) -> list[str]:
        """The modules in whose making one place in the source had a part."""
        return self._made_at[spot]

    @cached_property
    def planned_layers(self) -> frozenset[str]:
        """The layers of which every call gets a norm."""
        left = {call.layer for call in self.structure.calls if call not in self.planned_calls}
        return frozenset(wanted.layer for wanted in self.wanted if wanted.layer not in left)

    def makes_planned_alone(self, spot: Spot) -> bool:
        """Whether every weight layer in whose making a place in the source had a part gets a norm behind each call."""
        layers = [name for name in self.made_at(spot) if name in self._layers or is_weight_layer(self.modules[name])]
        return bool(layers) and self.planned_layers.issuperset(layers)

    @cached_property
    def _layers(self) -> frozenset[str]:
        return frozenset(call.layer for call in self.structure.calls)

    # -- changes ------------------------------------------------------------------------------------------------------

    def change(self, source: Source, *splices: Splice) -> None:
        """Notes changes of a file; one that is noted already counts once."""
        noted = self._splices[str(source.path)]
        noted.extend(splice for splice in splices if splice not in noted)

    def require(self, source: Source, norm: str) -> None:
        """Notes that a file needs the class `norm` of torch.nn under its bare name."""
        if norm not in self._required[str(source.path)]:
            self._required[str(source.path)].append(norm)

    def noted(self) -> Mapping[str, tuple[int, int]]:
        """How many changes of each file are noted by now, and how many imports."""
        return {filename: (len(self._splices[filename]), len(self._required[filename])) for filename in self._sources}

    def forget(self, since: Mapping[str, tuple[int, int]]) -> None:
        """Takes back what was noted after `since`."""
        for filename in self._sources:
            changes, imports = since.get(filename, (0, 0))
            del self._splices[filename][changes:]
            del self._required[filename][imports:]

    def proposal(self) -> Proposal:
        """All changes, made."""
        before, after = {}, {}
        for filename, splices in self._splices.items():
            if not splices:
                continue
            source = self._sources[filename]
            imports = imported(source, self._required[filename])
            before[source.path], after[source.path] = source.content, source.changed([*imports, *splices])
        return Proposal(before, after)
