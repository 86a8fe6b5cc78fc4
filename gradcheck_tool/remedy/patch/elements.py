"""A layer in an `nn.Sequential`, or in a list that forward runs through: the norm is the next element.

Where one place makes layers with and without a norm, and the activations behind those with one are made at a place of
their own, the norm goes in front of the activation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from gradcheck_tool.remedy.patch.names import attribute_names, named_after, numbering
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Made, Scene, Spot, Wanted
from gradcheck_tool.remedy.patch.sequences import in_sequence
from gradcheck_tool.remedy.patch.source import Source, Splice, last_name, nodes_in
from gradcheck_tool.remedy.patch.spelling import moved, size_attribute
from gradcheck_tool.remedy.patch.writing import constructor, norm_text, scope
from gradcheck_tool.sources import Stack

_NAMING_CALLS = frozenset({"add_module", "register_module"})
_CONTAINERS = ("Sequential", "ModuleList", "OrderedDict", "chain")
_ELSEWHERE = "the layer is made in a way that gradtool cannot follow in the source"


@dataclass(frozen=True)
class Place:
    """Where an element is put into its sequence: an item of a list or of a call's arguments, or a statement such as
    `layers.append(…)`. `element` is the expression of the element, `name` that of its name, where it has one."""

    source: Source
    node: cst.CSTNode
    element: cst.BaseExpression
    name: cst.BaseExpression | None
    spot: Spot


class _Outside(Exception):
    """The element is what a function returns: it is put into its sequence where that is called."""


def insert_elements(scene: Scene, group: Sequence[Wanted]) -> None:
    """Inserts the norms of `group`, whose layers one place puts into their sequences.

    Raises:
        Refused: with the reason.
    """
    first = group[0]
    made = constructor(scene, first)
    if len({wanted.layer for wanted in group}) < len(group):
        raise Refused(f"one place calls {first.layer} several times, and each call needs a norm of its own")
    place = of_layer = place_of_layer(scene, first)
    before = not scene.makes_planned_alone(place.spot)
    if before:
        place = _before_activations(scene, group, place)
    text = norm_text(scene, place.source, place.node, made, group, _size_of_variable(scene, of_layer, first))
    beside = {wanted.attribute: wanted.insertion.norm for wanted in scene.wanted if wanted.holder is first.holder}
    name = attribute_names(beside, lambda name: name in first.holder._modules)[first.attribute]
    short = numbering(first.attribute, name)
    scene.change(place.source, *_splices(place, text, of_layer.name, short, before))


def _size_of_variable(scene: Scene, place: Place, wanted: Wanted) -> str | None:
    """`conv.out_channels`, where a variable that holds the layer is put into the sequence."""
    attribute = size_attribute(scene.modules[wanted.layer])
    held = isinstance(place.element, cst.Name) and hasattr(scene.modules[wanted.layer], attribute)
    return f"{place.source.of(place.element)}.{attribute}" if held else None


def place_of_layer(scene: Scene, wanted: Wanted) -> Place:
    """Where a layer is put into its sequence.

    Raises:
        Refused: that is not in the user's files, or cannot be followed.
    """
    beside = [made.node for made in scene.made(_beside(scene, wanted))]
    return place_of(scene, wanted.stack, type(wanted.holder).__name__, beside)


def place_of(scene: Scene, stack: Stack, container: str, beside: Sequence[cst.CSTNode] = ()) -> Place:
    """Where what was made with `stack` is put into its sequence, an object of the class `container`; of several places
    that may be it, the one nearest to an expression `beside`, which makes the next element.

    Raises:
        Refused: that is not in the user's files, or cannot be followed.
    """
    for made in scene.made(stack):
        try:
            return _climb(made, made.node, container, beside)
        except _Outside:
            continue
    raise Refused(_ELSEWHERE)


def _beside(scene: Scene, wanted: Wanted) -> Stack:
    """What was running when the module behind a layer in its sequence was made."""
    keys = list(wanted.holder._modules)
    following = keys[keys.index(wanted.attribute) + 1 :] if wanted.attribute in keys else []
    prefix = f"{wanted.parent}." if wanted.parent else ""
    return next((scene.origins[prefix + key] for key in following if prefix + key in scene.origins), ())


def _before_activations(scene: Scene, group: Sequence[Wanted], place: Place) -> Place:
    """The place at which the activations are put in, if they are those behind layers with a norm alone."""
    shared = Refused("one place makes layers with and without a norm, and nothing there tells them apart")
    places = []
    targets = {str(node.target) for node in scene.planned_activations if node.op == "call_module"}
    for wanted in group:
        node = wanted.block.activation
        if node.op != "call_module" or wanted.block.inside:
            raise shared
        name = str(node.target)
        found = place_of(scene, scene.origins.get(name, ()), type(wanted.holder).__name__)
        same_kind = [other for other in scene.made_at(found.spot) if not any(scene.modules[other].children())]
        if not targets.issuperset(same_kind):
            raise shared
        places.append(found)
    if len({found.spot for found in places}) != 1 or scope(place.source, place.node) is not scope(
        places[0].source, places[0].node
    ):
        raise shared
    return places[0]


# -- from the expression outwards -------------------------------------------------------------------------------------


def _climb(made: Made, node: cst.CSTNode, container: str, beside: Sequence[cst.CSTNode]) -> Place:
    """The place at which the value of `node` is put into a sequence.

    Raises:
        _Outside: it is returned.
        Refused: it goes a way that is not known.
    """
    source = made.source
    inner: cst.CSTNode = moved(source, node) if isinstance(node, cst.BaseExpression) else node
    for around in source.parents(inner):
        if isinstance(around, cst.Arg):
            call = source.parent(around)
            assert call is not None
            if isinstance(call, cst.Call):
                found = _in_call(made, call, around, container)
                if found is not None:
                    return found
        elif isinstance(around, cst.Element):
            sequence = source.parent(around)
            assert sequence is not None
            return _in_sequence(made, sequence, around)
        elif isinstance(around, cst.DictElement):
            return Place(source, around, around.value, around.key, made.spot)
        elif isinstance(around, (cst.Return, cst.Lambda)):
            raise _Outside
        elif isinstance(around, cst.Yield):
            return Place(source, source.statement(around), _expression(inner), None, made.spot)
        elif isinstance(around, (cst.Assign, cst.AnnAssign)):
            return _follow(made, around, container, beside)
        elif isinstance(around, cst.BaseSmallStatement) or not isinstance(around, (cst.Call, cst.IfExp, cst.NamedExpr)):
            break
        inner = around
    raise Refused(_ELSEWHERE)


def _expression(node: cst.CSTNode) -> cst.BaseExpression:
    assert isinstance(node, cst.BaseExpression)
    return node


def _in_call(made: Made, call: cst.Call, argument: cst.Arg, container: str) -> Place | None:
    """The place, where the call puts its argument into a sequence; None where it returns something of the kind."""
    source, name = made.source, last_name(call.func)
    if name == "append":
        return Place(source, source.statement(call), argument.value, None, made.spot)
    if name in _NAMING_CALLS and len(call.args) == 2:
        return Place(source, source.statement(call), argument.value, call.args[0].value, made.spot)
    if name == "insert":
        raise Refused(_ELSEWHERE)
    if argument.star:
        raise Refused(_ELSEWHERE)
    if name.endswith(_CONTAINERS) or name in (container, "__init__"):
        return Place(source, argument, argument.value, argument.keyword, made.spot)
    return None


def _in_sequence(made: Made, sequence: cst.CSTNode, element: cst.Element) -> Place:
    source = made.source
    outer = source.parent(sequence)
    if isinstance(sequence, cst.Tuple) and len(sequence.elements) == 2 and isinstance(outer, (cst.Element, cst.Arg)):
        first = sequence.elements[0].value
        if element is sequence.elements[1] and isinstance(
            first, (cst.SimpleString, cst.FormattedString, cst.BinaryOperation, cst.Name, cst.Call)
        ):
            named = outer
            if isinstance(outer, cst.Element) or source.of(outer).startswith("("):
                return Place(source, named, element.value, first, made.spot)
    if isinstance(outer, (cst.Assign, cst.AnnAssign)) and isinstance(sequence, cst.Tuple):
        raise Refused(_ELSEWHERE)
    return Place(source, element, element.value, None, made.spot)


def _follow(made: Made, assign: cst.Assign | cst.AnnAssign, container: str, beside: Sequence[cst.CSTNode]) -> Place:
    """The place at which a variable that was given the layer is put into a sequence."""
    source = made.source
    targets = [target.target for target in assign.targets] if isinstance(assign, cst.Assign) else [assign.target]
    target = targets[0]
    if isinstance(target, cst.Subscript) and len(targets) == 1 and len(target.slice) == 1:
        index = target.slice[0].slice
        if isinstance(index, cst.Index):
            value = assign.value
            assert value is not None
            return Place(source, assign, value, index.value, made.spot)
    places: list[Place] = []
    returned = False
    for use in _uses(source, assign, [source.of(one) for one in targets]):
        try:
            places.append(_climb(made, use, container, beside))
        except _Outside:
            returned = True
        except Refused:
            continue
    if places:
        return min(places, key=lambda place: _distance(place, beside))
    raise _Outside if returned else Refused(_ELSEWHERE)


def _distance(place: Place, beside: Sequence[cst.CSTNode]) -> int:
    """The number of nodes around a place until one of `beside` is within them."""
    for count, around in enumerate(place.source.parents(place.node)):
        if any(around in place.source.parents(node) for node in beside):
            return count
    return 10**6


def _uses(source: Source, assign: cst.CSTNode, names: Sequence[str]) -> Iterator[cst.CSTNode]:
    """The later uses of the variables in the same function, as whole arguments, elements or results."""
    inside = scope(source, assign)
    if inside is None:
        return
    behind = source.span(assign)[1]
    for node in nodes_in(inside):
        named = isinstance(node, (cst.Name, cst.Attribute))
        if named and source.span(node)[0] >= behind and source.of(node) in names:
            around = source.parent(node)
            if isinstance(around, (cst.Arg, cst.Element, cst.Return, cst.DictElement)):
                yield node


# -- how it is written ------------------------------------------------------------------------------------------------


def _splices(
    place: Place, norm: str, of_layer: cst.BaseExpression | None, short: str | None, before: bool
) -> list[Splice]:
    """The changes that put `norm` in at `place`, named after the layer where elements have names."""
    source, node = place.source, place.node
    name = None
    if place.name is not None:
        after = of_layer or place.name
        name = named_after(after, source.of(after), short)
        if name is None and not isinstance(node, cst.Arg):
            raise Refused("the name that the norm would have cannot be told")
    if isinstance(node, cst.BaseSmallStatement):
        text = _statement(place, norm, name)
        return [source.above(node, text) if before else source.below(node, text)]
    if isinstance(node, cst.DictElement):
        norm = f"{name}: {norm}"
    elif isinstance(node, cst.Arg) and node.keyword is not None:
        norm = f"{node.keyword.value}_norm={norm}"
    elif name is not None:
        norm = f"({name}, {norm})"
    return in_sequence(source, node, norm, before=before)


def _statement(place: Place, norm: str, name: str | None) -> str:
    """The statement that puts the norm in, as the one at `place` puts in the layer."""
    source = place.source
    start, end = source.span(place.node)
    first, last = source.outer_span(place.element)
    text = source.text[start:first] + norm + source.text[last:end]
    if name is not None and place.name is not None:
        at, to = source.span(place.name)
        text = text[: at - start] + name + text[to - start :]
    return text
