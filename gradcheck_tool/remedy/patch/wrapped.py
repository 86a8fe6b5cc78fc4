"""The last resort: a layer is wrapped, together with its norm, at the one place at which it is made. Whatever runs the
layer then runs both; its keys in the state dict get a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Scene, Wanted
from gradcheck_tool.remedy.patch.source import Splice
from gradcheck_tool.remedy.patch.spelling import moved
from gradcheck_tool.remedy.patch.writing import class_name, constructor, norm_text


def wrap(scene: Scene, group: Sequence[Wanted]) -> None:
    """Wraps the layers of `group`, all made at one place.

    Raises:
        Refused: the place makes layers without a norm too, or a layer of it is called more than once.
    """
    first = group[0]
    made = constructor(scene, first)
    if made is None or not first.is_module or not isinstance(made.node, cst.Call):
        raise Refused(f"the place at which {first.layer} is made is not in your files")
    layers = [wanted.layer for wanted in group]
    if len(set(layers)) < len(layers):
        raise Refused(f"{first.layer} is called several times, and each call needs a norm of its own")
    if not scene.makes_planned_alone(made.spot):
        raise Refused("one place makes layers with and without a norm, and nothing there tells them apart")
    source = made.source
    norm = norm_text(scene, source, made.node, made, group)
    sequential = class_name(scene, source, made.node, "Sequential")
    start, end = source.outer_span(moved(source, made.node))
    scene.change(source, Splice(start, start, f"{sequential}("), Splice(end, end, f", {norm})"))
