"""Shortcuts → a change of the user's files: forward adds what goes into a block, `x + self.scale * F.relu(self.fc(x))`
(forwards), or the elements of a Sequential that are a block become one, a `Shortcut` (nesting).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.remedy.base import Step
from gradcheck_tool.remedy.patch.calls import Site
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.scene import Scene
from gradcheck_tool.remedy.patch.shortcuts.around import Around, site_of
from gradcheck_tool.remedy.patch.shortcuts.forwards import with_attributes, with_list
from gradcheck_tool.remedy.patch.shortcuts.nesting import Nesting
from gradcheck_tool.remedy.patch.walks import walks
from gradcheck_tool.remedy.shortcuts import Shortcut, blocks_with_a_shortcut
from gradcheck_tool.sources import Stack

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def propose_shortcuts(
    model: nn.Module, structure: Structure, steps: Sequence[Step], origins: Mapping[str, Stack]
) -> tuple[Proposal, Counter[str]]:
    """The change of the user's files that leads a shortcut around the block of each of `steps`, and how many modules of
    which new classes the model then has.

    Raises:
        Refused: with the reason, where there is none.
    """
    scene = Scene(model, structure, (), origins)
    blocks = blocks_with_a_shortcut(structure)
    arounds = [
        Around(scene.layer(call), end)
        for step in steps
        if isinstance(step, Shortcut)
        for call, end in [blocks[step.layer]]
    ]
    calls = Counter(around.layer.layer for around in arounds)
    again = next((layer for layer, count in calls.items() if count > 1), None)
    if again is not None:
        raise Refused(f"{again} is called several times, and each call needs a factor of its own")
    homes: dict[tuple[str, ...], list[Around]] = defaultdict(list)
    for around in arounds:
        homes[_home(scene, around)].append(around)
    nesting = Nesting(scene)
    attributes: dict[str, list[list[Around]]] = defaultdict(list)
    for home, group in homes.items():
        if home[0] == "elements":
            nesting.nest(group)
        elif home[0] == "list":
            with_list(scene, group)
        else:
            attributes[home[1]].append(group)
    for groups in attributes.values():
        with_attributes(scene, groups)
    return scene.proposal(), nesting.made


def _home(scene: Scene, around: Around) -> tuple[str, ...]:
    """What kind of home the layer that a block begins with has, and which: those of one home are written together."""
    layer = around.layer
    if not layer.is_module:
        raise Refused(f"{layer.layer} is a bare parameter, beside whose uses gradtool writes no shortcuts")
    owner = type(scene.modules[layer.parent.rpartition(".")[0]])
    if isinstance(layer.holder, nn.Sequential) and not _is_walked(site_of(scene, layer), layer.parent):
        return ("elements", str(scene.spot(layer.stack[0]) if layer.stack else None))
    if isinstance(layer.holder, _LISTS):
        return ("list", f"{owner.__module__}.{owner.__qualname__}", layer.parent.rpartition(".")[2])
    return ("attribute", f"{type(layer.holder).__module__}.{type(layer.holder).__qualname__}", layer.attribute)


def _is_walked(site: Site | None, parent: str) -> bool:
    return site is not None and walks(site, parent.rpartition(".")[2])
