"""What a rule sees of a model: the analyzed graph, the chains with their decades, and where things are in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from gradcheck_tool.capturing.recorder import Recording
from gradcheck_tool.chains import Block, Call, Structure, location_of
from gradcheck_tool.results import Chain, Location
from gradcheck_tool.sources import locate


@dataclass(frozen=True)
class View:
    """All that the rules have to go by. `chains` pairs the blocks of each chain with what is reported of it."""

    model: nn.Module
    recording: Recording
    structure: Structure
    chains: Sequence[tuple[Sequence[Block], Chain]]
    births: Mapping[str, Location]
    min_depth: int

    def location_of_call(self, call: Call) -> Location | None:
        """Where a weight layer is constructed, if that was seen, else where it is called."""
        return location_of(call, self.births)

    def location_of_node(self, node: fx.Node) -> Location | None:
        """Where a recorded op stands in forward."""
        return locate(node.meta.get("where"))


def by_place(found: Iterable[tuple[str, Location | None]]) -> dict[Location | None, list[str]]:
    """Names grouped by the place in the source that they share, so that a module used many times is one finding."""
    groups: dict[Location | None, list[str]] = {}
    for name, location in found:
        groups.setdefault(location, []).append(name)
    return groups


def named(names: Sequence[str]) -> str:
    """ "a", "a and b", "a and 3 more"."""
    return (
        names[0] if len(names) == 1 else f"{names[0]} and {names[1] if len(names) == 2 else f'{len(names) - 1} more'}"
    )
