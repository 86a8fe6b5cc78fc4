"""The places at which layers are called, and how the norm behind each is called there.

A call of a layer is wrapped: `self.fc1(x)` → `self.bn1(self.fc1(x))`. Where one place calls layers with and without a
norm, and the activation that follows is called for those with one alone, its argument is wrapped instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from gradcheck_tool.ops import Kind
from gradcheck_tool.remedy.patch.classes import classes_of
from gradcheck_tool.remedy.patch.names import free
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Scene, Spot, Wanted
from gradcheck_tool.remedy.patch.source import Source, Splice, every, gives
from gradcheck_tool.remedy.patch.writing import scope


@dataclass(frozen=True)
class Site:
    """One place that calls layers: `around` is the expression to be wrapped, `func` what is called there to get the
    layer's output, `wanted` the norms that this place needs."""

    source: Source
    call: cst.Call | cst.BaseExpression
    func: cst.BaseExpression | None
    around: cst.BaseExpression
    wanted: tuple[Wanted, ...]

    def wrapped(self, norm: str) -> list[Splice]:
        """The changes that send the value through `norm`, an expression."""
        start, end = self.source.outer_span(self.around)
        return [Splice(start, start, f"{norm}("), Splice(end, end, ")")]


def sites_of(scene: Scene, group: Sequence[Wanted]) -> list[Site]:
    """The places that call the layers of `group`, in the order in which each layer comes through them.

    Raises:
        Refused: a place is not in the user's files, or serves layers without a norm too, or one layer several times.
    """
    first = group[0]
    if first.is_module and first.call.module is None:
        return [_site_by_name(scene, group)]
    places: dict[Spot | None, list[Wanted]] = {}
    for wanted in group:
        places.setdefault(scene.spot(wanted.called), []).append(wanted)
    return [_site(scene, there) for there in places.values()]


def _site_by_name(scene: Scene, group: Sequence[Wanted]) -> Site:
    """The place that calls a layer whose own forward calls a function with its weight: the point in the source that is
    known is in there, so the call of the layer is looked for by its name."""
    first = group[0]
    found = []
    for source, definition in classes_of(scene, first.holder):
        calls = every(definition, cst.Call)
        found += [(source, call) for call in calls if _is_named(call.func, first.attribute)]
    if len(found) != 1:
        raise Refused(f"there is not one place that calls {first.layer}, but {len(found)}")
    source, call = found[0]
    return Site(source, call, call.func, call, tuple(group))


def _is_named(func: cst.BaseExpression, attribute: str) -> bool:
    return isinstance(func, cst.Attribute) and func.attr.value == attribute


def _site(scene: Scene, group: list[Wanted]) -> Site:
    first = group[0]
    found = scene.node_at(first.called)
    if found is None:
        raise Refused(f"the call of {first.layer} is not in your files")
    source, node = found
    layers = [wanted.layer for wanted in group]
    if len(set(layers)) < len(layers):
        raise Refused(f"one place calls {first.layer} several times, and each call needs a norm of its own")
    func = resolved(source, node.func) if isinstance(node, cst.Call) else None
    if set(scene.calls_at(first.called)) <= scene.planned_calls:
        return Site(source, node, func, node, tuple(group))
    return Site(source, node, func, _before_activation(scene, group), tuple(group))


def _before_activation(scene: Scene, group: list[Wanted]) -> cst.BaseExpression:
    """What goes into the activation that is called behind the layers of `group` alone."""
    first = group[0]
    shared = Refused(f"one place calls {first.layer} and layers without a norm, and nothing there tells them apart")
    if any(wanted.block.inside for wanted in group) or not scene.serves_planned_alone(first.activated):
        raise shared
    found = scene.node_at(first.activated)
    if found is None or len({scene.spot(wanted.activated) for wanted in group}) > 1:
        raise shared
    node = found[1]
    if not isinstance(node, cst.Call):
        raise shared
    operation = scene.structure.operations[first.block.activation]
    if operation.kind is not Kind.ACTIVATION:
        raise shared
    if first.block.activation.op == "call_method" and isinstance(node.func, cst.Attribute):
        return node.func.value
    if not node.args or node.args[0].keyword is not None:
        raise shared
    return node.args[0].value


def resolved(source: Source, func: cst.BaseExpression) -> cst.BaseExpression:
    """What a local name that is called stands for, where the same function gave it a layer: `fc = self.fc1`."""
    if not isinstance(func, cst.Name):
        return func
    inside = scope(source, func)
    if inside is None:
        return func
    given = [assign for assign in every(inside, cst.Assign) if gives(assign, func.value)]
    before = [assign for assign in given if source.span(assign)[0] < source.span(func)[0]]
    return before[-1].value if before else func


def loop_around(source: Source, node: cst.CSTNode, name: str) -> cst.For | None:
    """The loop around a node that binds `name`."""
    for around in source.parents(node):
        if isinstance(around, cst.For) and name in names_in(around.target):
            return around
        if isinstance(around, (cst.FunctionDef, cst.Lambda)):
            return None
    return None


def free_variable(source: Source, node: cst.CSTNode, layer: str, word: str = "norm") -> str:
    """`norm`, or `layer_norm` where the function has that already."""
    taken = _names_around(source, node)
    return free(word if word not in taken else f"{layer}_{word}", taken.__contains__)


def free_name(source: Source, node: cst.CSTNode, wanted: str) -> str:
    """`wanted`, or with a number where the function around `node` has that already."""
    return free(wanted, _names_around(source, node).__contains__)


def _names_around(source: Source, node: cst.CSTNode) -> set[str]:
    inside = scope(source, node)
    return names_in(inside) if inside is not None else set()


def names_in(node: cst.CSTNode) -> set[str]:
    """The names that are read or bound in `node`."""
    return {name.value for name in every(node, cst.Name)}
