"""Layers in an `nn.ModuleList` or `nn.ModuleDict` that forward walks through: the norms are a list beside it, and are
walked through beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import libcst as cst
from torch import nn

from gradcheck_tool.remedy.patch.calls import sites_of
from gradcheck_tool.remedy.patch.classes import binding, bound, classes_of, statements_in
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Layer, Made, Scene, Wanted
from gradcheck_tool.remedy.patch.source import Source, Splice, attributes, last_name
from gradcheck_tool.remedy.patch.spelling import is_constructor, size_attribute
from gradcheck_tool.remedy.patch.walks import walk
from gradcheck_tool.remedy.patch.writing import class_name, constructing, constructor, norm_text

_ADDING = ("append", "add_module", "extend", "update", "insert")


def insert_list(scene: Scene, group: Sequence[Wanted], name: str) -> None:
    """Inserts the norms of `group`, the layers of one list (or dict) of all modules of one class, as a list `name`.

    Raises:
        Refused: with the reason.
    """
    first = group[0]
    owner_name, _, attribute = first.parent.rpartition(".")
    owner = scene.modules[owner_name]
    source, statement = bound_list(scene, owner, attribute)
    chosen = _chosen(scene, group, attribute)
    sites = sites_of(scene, group)
    if len(sites) != 1 and len({wanted.layer for wanted in group}) != len(group):
        raise Refused(f"the layers of {attribute} are called at several places, and each call needs a norm of its own")
    for site in sites:
        scene.change(site.source, *site.wrapped(walk(scene, site, attribute, name)))
    _make(scene, group, source, statement, attribute, name, chosen)


# -- which of them ----------------------------------------------------------------------------------------------------


def bound_list(scene: Scene, owner: nn.Module, attribute: str) -> tuple[Source, cst.BaseSmallStatement]:
    """The statement that makes a list of layers an attribute.

    Raises:
        Refused: it is not in the user's files, or the list is in another one.
    """
    if isinstance(owner, (nn.ModuleList, nn.ModuleDict, nn.Sequential)) or not attribute:
        raise Refused("the layers are in a list of lists")
    found = binding(scene, owner, attribute)
    if found is None:
        raise Refused(f"the place at which {attribute} is made is not in your files")
    return found


def _chosen(scene: Scene, group: Sequence[Wanted], attribute: str) -> int | None:
    """How many of the list's elements, from the first, get a norm; None where all do.

    Raises:
        Refused: others than the first so many, or not the same in all lists of the class.
    """
    sizes: set[tuple[int, int]] = set()
    holders = {wanted.parent: wanted.holder for wanted in group}
    owner_class = type(scene.modules[group[0].parent.rpartition(".")[0]])
    owners = [name for name, module in scene.model.named_modules() if type(module) is owner_class]
    if len(owners) != len(holders):
        raise Refused(f"of the {len(owners)} modules of the class {owner_class.__name__} only some need norms")
    for parent, holder in holders.items():
        keys = list(holder._modules)
        mine = {wanted.attribute for wanted in group if wanted.parent == parent}
        if mine != set(keys[: len(mine)]):
            raise Refused(f"of the layers in {attribute} only some need a norm, and not the first ones")
        sizes.add((len(mine), len(keys)))
    count, whole = next(iter(sizes))
    if all(some == every for some, every in sizes):
        return None
    if len(sizes) > 1 and len({every - some for some, every in sizes}) > 1:
        raise Refused(f"of the layers in {attribute} another number needs a norm in each module of the class")
    return count if len(sizes) == 1 and whole - count > 1 else count - whole


# -- where it is made -------------------------------------------------------------------------------------------------


def _make(
    scene: Scene,
    group: Sequence[Wanted],
    source: Source,
    statement: cst.BaseSmallStatement,
    attribute: str,
    name: str,
    chosen: int | None,
) -> None:
    """Adds the list of norms below the place at which the list of layers is complete."""
    what = bound(statement, attribute)
    target = what[0] if what is not None else None
    value = statement.value if isinstance(statement, (cst.Assign, cst.AnnAssign)) else None
    if not isinstance(target, cst.Attribute) or value is None:
        raise Refused(f"{attribute} is made in a way that gradtool cannot follow in the source")
    receiver = source.of(target.value)
    makers = {made.spot: made for wanted in group if (made := constructor(scene, wanted)) is not None}
    inside = [made for made in makers.values() if made.source is source and statement in source.parents(made.node)]
    additions = _additions(scene, group, source, attribute)
    if inside and len(inside) == len(makers) and not additions:
        text = _mirrored(scene, group, source, value, inside, chosen)
        if text is not None:
            scene.change(source, source.below(statement, f"{receiver}.{name} = {text}"))
            return
    if additions and isinstance(value, cst.Call) and not value.args and _all_added(scene, group, additions):
        scene.change(source, source.below(statement, f"{receiver}.{name} = {source.of(value)}"))
        for line, element, members in additions:
            norm = norm_text(scene, source, line, constructor(scene, members[0]), members)
            scene.change(source, source.below(line, _added(source, line, element, attribute, name, norm)))
        return
    text = _generic(scene, group, source, receiver, attribute, name, chosen)
    scene.change(source, below_complete(scene, group, source, statement, attribute, text))


def _mirrored(
    scene: Scene,
    group: Sequence[Wanted],
    source: Source,
    value: cst.BaseExpression,
    inside: Sequence[Made],
    chosen: int | None,
) -> str | None:
    """The expression that makes the layers, with norms in their places; None where it is more than a plain list."""
    if not isinstance(value, cst.Call) or not last_name(value.func).startswith(("Module", "Sequential")):
        return None
    items = [source.parent(made.node) for made in inside]
    splices = []
    if chosen is not None:
        left_out = _behind_last(source, items)
        if left_out is None:
            return None
        splices.append(Splice(*left_out, ""))
    for made in inside:
        if not _is_element(source, made.node):
            return None
        members = [wanted for wanted in group if (own := constructor(scene, wanted)) and own.spot == made.spot]
        splices.append(Splice(*source.outer_span(made.node), norm_text(scene, source, made.node, made, members)))
    splices += [  # the comments are on the layers
        splice
        for splice in source.without_comments(value)
        if not any(other.start <= splice.start < other.end for other in splices)
    ]
    return source.spliced(splices, *source.span(value))


def _behind_last(source: Source, items: Sequence[cst.CSTNode | None]) -> tuple[int, int] | None:
    """Where the elements of a literal stand that come behind `items`, its first ones."""
    last = max((item for item in items if item is not None), key=lambda item: source.span(item)[0])
    sequence = source.parent(last)
    elements = getattr(sequence, "elements", None) or getattr(sequence, "args", None)
    if not elements or len(items) != list(elements).index(last) + 1:
        return None
    return source.span(last)[1], source.span(elements[-1])[1]


def _is_element(source: Source, node: cst.BaseExpression) -> bool:
    """Whether an expression is the whole element of a list, a comprehension or a dict."""
    around = source.parent(node)
    kinds = (cst.Element, cst.DictElement, cst.ListComp, cst.GeneratorExp, cst.DictComp, cst.Arg)
    return isinstance(around, kinds)


_Placed = TypeVar("_Placed", bound=Layer)
_Addition = tuple[cst.BaseSmallStatement, cst.BaseExpression, list[_Placed]]


def _additions(scene: Scene, group: Sequence[_Placed], source: Source, attribute: str) -> list[_Addition[_Placed]]:
    """The statements that add to the list later, the element each adds, and the norms behind those elements."""
    found: list[_Addition[_Placed]] = []
    for _, definition in classes_of(scene, scene.modules[group[0].parent.rpartition(".")[0]]):
        for line in statements_in(definition):
            element = _element_added(line, attribute)
            if element is not None:
                members = [
                    wanted
                    for wanted in group
                    if any(
                        made.source is source and line in source.parents(made.node) for made in scene.made(wanted.stack)
                    )
                ]
                found.append((line, element, members))
    return found


def _element_added(line: cst.BaseSmallStatement, attribute: str) -> cst.BaseExpression | None:
    """What `self.body.append(…)` or `self.body[key] = …` adds."""
    if isinstance(line, cst.Expr) and isinstance(line.value, cst.Call) and isinstance(line.value.func, cst.Attribute):
        func = line.value.func
        ours = last_name(func.value) == attribute and isinstance(func.value, cst.Attribute)
        if ours and func.attr.value in _ADDING and line.value.args:
            return line.value.args[-1].value
    if isinstance(line, cst.Assign) and isinstance(line.targets[0].target, cst.Subscript):
        holder = line.targets[0].target.value
        if isinstance(holder, cst.Attribute) and holder.attr.value == attribute:
            return line.value
    return None


def _all_added(scene: Scene, group: Sequence[Wanted], additions: Sequence[_Addition[Wanted]]) -> bool:
    """Whether each of the norms belongs to one of the statements, and each of these adds layers with a norm alone."""
    covered = {wanted for _, _, members in additions for wanted in members}
    ours = [(line, element, members) for line, element, members in additions if members]
    return (
        covered == set(group)
        and all(
            is_constructor(element) and all(scene.makes_planned_alone(made.spot) for made in _innermost(scene, members))
            for _, element, members in ours
        )
        and len(ours) == len(additions)
    )


def _innermost(scene: Scene, members: Sequence[Wanted]) -> Iterator[Made]:
    for wanted in members:
        made = constructor(scene, wanted)
        if made is not None:
            yield made


def _added(
    source: Source, line: cst.BaseSmallStatement, element: cst.BaseExpression, attribute: str, name: str, norm: str
) -> str:
    """The statement `line`, which adds a layer, for its norm."""
    start, end = source.span(line)
    first, last = source.outer_span(element)
    at, to = source.span(attributes(line, attribute)[0].attr)
    if to <= first:
        return source.text[start:at] + name + source.text[to:first] + norm + source.text[last:end]
    raise Refused(f"the way in which {attribute} is filled cannot be followed")


def _generic(
    scene: Scene,
    group: Sequence[Wanted],
    source: Source,
    receiver: str,
    attribute: str,
    name: str,
    chosen: int | None,
) -> str:
    """The statement that makes a norm for each layer that is in the list already."""
    first = group[0]
    made = constructor(scene, first)
    node = made.node if made is not None and made.source is source else None
    container = class_name(scene, source, node, type(first.holder).__name__)
    features = {wanted.insertion.num_features for wanted in group}
    size = f"layer.{size_attribute(scene.modules[first.layer])}"
    if isinstance(first.holder, nn.ModuleDict):
        if chosen is not None:
            raise Refused(f"of the layers in {attribute} only some need a norm")
        norm = constructing(scene, source, node, group, size)
        items = f"{{name: {norm} for name, layer in {receiver}.{attribute}.items()}}"
        return f"{receiver}.{name} = {container}({items})"
    if any(not hasattr(scene.modules[wanted.layer], size_attribute(scene.modules[first.layer])) for wanted in group):
        if len(features) > 1:
            raise Refused(f"no expression tells the sizes of the layers in {attribute}")
        size = str(next(iter(features)))
    norm = constructing(scene, source, node, group, size)
    some = "" if chosen is None else f"[:{chosen}]"
    star = "*" if isinstance(first.holder, nn.Sequential) else ""
    return f"{receiver}.{name} = {container}({star}[{norm} for layer in {receiver}.{attribute}{some}])"


def below_complete(
    scene: Scene, group: Sequence[Layer], source: Source, statement: cst.BaseSmallStatement, attribute: str, text: str
) -> Splice:
    """`text` below where a list, which `statement` makes, is complete: out of the loops that fill it."""
    additions = _additions(scene, group, source, attribute)
    last = additions[-1][0] if additions else statement
    outer = {id(around) for around in source.parents(statement)}
    around: cst.CSTNode = last
    indent = source.indent_at(source.span(statement)[0])
    for node in source.parents(last):
        if id(node) in outer:
            break
        around = node
    return source.line_after(source.span(around)[1], indent + text)
