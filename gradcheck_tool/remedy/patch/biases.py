"""`bias=False` for layers whose bias the new norms make void, at the places at which they are made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import libcst as cst

from gradcheck_tool.remedy.patch.scene import Made, Scene, Spot
from gradcheck_tool.remedy.patch.source import Splice, last_name
from gradcheck_tool.remedy.patch.spelling import is_constructor

_BIAS_AT = {"Linear": 2, "LazyLinear": 1, "Bilinear": 3}
"""Where the bias stands among the positional arguments; of convolutions it is the eighth, of lazy ones the seventh, of
transposed ones the eighth and seventh too."""


def turn_off(scene: Scene, layers: Collection[str]) -> Mapping[str, str]:
    """Notes the changes that make `layers` without a bias. Returns those that keep theirs, with the reason."""
    places: dict[Spot | None, list[str]] = defaultdict(list)
    makers: dict[Spot | None, Made] = {}
    for layer in layers:
        made = next(scene.made(scene.origins.get(layer, ())), None)
        spot = made.spot if made is not None else None
        places[spot].append(layer)
        if made is not None:
            makers[spot] = made
    kept: dict[str, str] = {}
    for spot, here in places.items():
        reason = _turned_off(scene, makers.get(spot), here)
        if reason is not None:
            kept |= dict.fromkeys(here, reason)
    return kept


def _turned_off(scene: Scene, made: Made | None, layers: Collection[str]) -> str | None:
    """Why the bias of `layers`, all made at one place, stays; None where its change is noted."""
    if made is None or not isinstance(made.node, cst.Call) or not is_constructor(made.node):
        return "its bias stays: the place at which the layer is made does not spell it out"
    others = [name for name in scene.made_at(made.spot) if name not in layers and name in scene.modules]
    if others:
        return f"its bias stays: {others[0]}, which needs its own, is made at the same place"
    node, source = made.node, made.source
    kind = last_name(node.func)
    position = _BIAS_AT.get(kind, 6 if kind.startswith("Lazy") else 7)
    given: cst.BaseExpression | None = None
    for at, argument in enumerate(node.args):
        if argument.star:
            return "its bias stays: the layer's arguments are unpacked where it is made"
        keyword = argument.keyword.value if argument.keyword is not None else None
        if keyword == "bias" or (keyword is None and at == position):
            given = argument.value
    if given is not None:
        start, end = source.outer_span(given)
        scene.change(source, Splice(start, end, "False"))
        return None
    last = node.args[-1]
    end = source.outer_span(last.value)[1]
    scene.change(source, Splice(end, end, ", bias=False"))
    return None
