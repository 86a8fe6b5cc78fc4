"""A plan → proposals: changed source files, the most natural first.

Each layer's norm goes where its kind of home has it: the next element of a Sequential (elements), an attribute beside
the layer's (attributes), a list beside its list (lists), and where nothing else fits, wrapped together with the layer
where that is made (wrapped).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.remedy.patch.attributes import insert_attribute
from gradcheck_tool.remedy.patch.biases import turn_off
from gradcheck_tool.remedy.patch.elements import insert_elements, place_of_layer
from gradcheck_tool.remedy.patch.lists import insert_list
from gradcheck_tool.remedy.patch.names import attribute_names, free
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.scene import Scene, Wanted
from gradcheck_tool.remedy.patch.walks import is_walked
from gradcheck_tool.remedy.patch.wrapped import wrap
from gradcheck_tool.results import Insertion
from gradcheck_tool.sources import Stack

__all__ = ["Proposal", "Refused", "keeps_bias", "propose"]

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def propose(
    model: nn.Module,
    structure: Structure,
    plan: Sequence[Insertion],
    origins: Mapping[str, Stack],
    drop_bias: frozenset[str] = frozenset(),
) -> Iterator[Proposal]:
    """Changes of the user's files that insert the norms of `plan`, the most natural first.

    Args:
        model: that was loaded from those files.
        structure: of the recording that the plan was made from.
        plan: what to insert.
        origins: what was running when each module was made.
        drop_bias: layers that lose their bias; of those that `keeps_bias` names, none does.

    Raises:
        Refused: with the reason, where there is no way at all; at the first step of the iteration.
    """
    refusal: Refused | None = None
    seen: list[Proposal] = []
    for only_wrap in (False, True):
        scene = Scene(model, structure, plan, origins)
        try:
            homes = _homes(scene)
            for home in homes:
                _insert(scene, homes, home, only_wrap)
            turn_off(scene, drop_bias)
            proposal = scene.proposal()
        except Refused as error:
            refusal = refusal or error
            continue
        if proposal not in seen:
            seen.append(proposal)
            yield proposal
    if not seen and refusal is not None:
        raise refusal


def keeps_bias(
    model: nn.Module,
    structure: Structure,
    plan: Sequence[Insertion],
    origins: Mapping[str, Stack],
    layers: Collection[str],
) -> Mapping[str, str]:
    """Those of `layers` whose bias cannot be turned off in the source, and why."""
    try:
        return turn_off(Scene(model, structure, plan, origins), layers)
    except Refused as refusal:
        return dict.fromkeys(layers, f"its bias stays: {refusal}")


Home = tuple[str, ...]
"""What kind of home a layer has, and which: layers of one home are inserted together."""


def _homes(scene: Scene) -> Mapping[Home, list[Wanted]]:
    """The norms, by the homes of their layers, in the order of the plan."""
    homes: dict[Home, list[Wanted]] = defaultdict(list)
    for wanted in scene.wanted:
        homes[_home(scene, wanted)].append(wanted)
    return homes


def _home(scene: Scene, wanted: Wanted) -> Home:
    holder = wanted.holder
    if wanted.is_module and _runs_through(scene, wanted):
        return ("elements", str(place_of_layer(scene, wanted).spot))
    if isinstance(holder, _LISTS):
        owner = type(scene.modules[wanted.parent.rpartition(".")[0]])
        return ("list", f"{owner.__module__}.{owner.__qualname__}", wanted.parent.rpartition(".")[2])
    return ("attribute", f"{type(holder).__module__}.{type(holder).__qualname__}", wanted.attribute)


def _runs_through(scene: Scene, wanted: Wanted) -> bool:
    """Whether the layer's holder is run through element by element: a Sequential, or a list with the activations."""
    holder, activation = wanted.holder, wanted.block.activation
    beside = activation.op == "call_module" and str(activation.target).rpartition(".")[0] == wanted.parent
    if isinstance(holder, nn.Sequential) and type(holder).forward is nn.Sequential.forward:
        return beside or not is_walked(scene, wanted)
    return isinstance(holder, nn.ModuleList) and beside


def _insert(scene: Scene, homes: Mapping[Home, list[Wanted]], home: Home, only_wrap: bool) -> None:
    """Inserts the norms of one home, in its own way; where that does not go, wrapped with their layers.

    Raises:
        Refused: with the reason of the home's own way.
    """
    group = homes[home]
    if home[0] == "elements":
        insert_elements(scene, group)
        return
    noted = scene.noted()
    try:
        if only_wrap:
            raise Refused("")
        if home[0] == "list":
            insert_list(scene, group, _list_name(scene, group))
        else:
            insert_attribute(scene, group, _attribute_names(scene, homes, home))
    except Refused as refusal:
        scene.forget(noted)
        try:
            for made in _by_place(scene, group):
                wrap(scene, made)
        except Refused as second:
            raise (refusal if str(refusal) else second) from second


def _by_place(scene: Scene, group: Sequence[Wanted]) -> list[list[Wanted]]:
    places: dict[object, list[Wanted]] = defaultdict(list)
    for wanted in group:
        places[scene.spot(wanted.stack[0]) if wanted.stack else None].append(wanted)
    return list(places.values())


def _attribute_names(scene: Scene, homes: Mapping[Home, list[Wanted]], home: Home) -> Mapping[str, str]:
    """The names of the norms that the class of a home gets, by the attribute of the layer."""
    attributes = {other[2]: group[0].insertion.norm for other, group in homes.items() if other[:2] == home[:2]}
    instances = [module for module in scene.modules.values() if type(module) is type(homes[home][0].holder)]
    return attribute_names(attributes, lambda name: any(hasattr(module, name) for module in instances))


def _list_name(scene: Scene, group: Sequence[Wanted]) -> str:
    owner_name, _, attribute = group[0].parent.rpartition(".")
    owner = scene.modules[owner_name]
    return free(f"{attribute}_norms", lambda name: hasattr(owner, name))
