"""Shortcuts in a forward that is written out: `x = F.relu(self.fc2(x))` → `x = x + self.scale2 * F.relu(self.fc2(x))`,
with the factor an attribute beside the layer, or an element of a list beside the layer's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import libcst as cst
from torch import nn

from gradcheck_tool.remedy.patch.calls import Site, free_name, names_in
from gradcheck_tool.remedy.patch.classes import bound, statement_of
from gradcheck_tool.remedy.patch.lists import below_complete, bound_list
from gradcheck_tool.remedy.patch.names import free
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Scene
from gradcheck_tool.remedy.patch.shortcuts.around import Around, keeps_size, site_of, sizes_of
from gradcheck_tool.remedy.patch.shortcuts.factors import factor_text
from gradcheck_tool.remedy.patch.source import Source, Splice, every
from gradcheck_tool.remedy.patch.styling import width_of
from gradcheck_tool.remedy.patch.walks import walk
from gradcheck_tool.remedy.patch.writing import class_name, comprehension, constructor, scope

_WHAT = "a shortcut"
_NUMBER = re.compile(r"[a-z]*?(_?\d+)")
_PLAIN = (cst.Assign, cst.AnnAssign, cst.Return, cst.Arg, cst.Element, cst.NamedExpr)
"""What a sum may stand in without parentheses."""


# -- where the factors are ---------------------------------------------------------------------------------------------


def with_attributes(scene: Scene, groups: Sequence[Sequence[Around]]) -> None:
    """Shortcuts around blocks that begin with layers which are attributes of one class, a group for each attribute: the
    factors are attributes too.

    Raises:
        Refused: with the reason.
    """
    instances = [module for module in scene.modules.values() if type(module) is type(groups[0][0].layer.holder)]
    names: list[str] = []
    for group in groups:
        layer = group[0].layer
        layers = [getattr(module, layer.attribute, None) for module in instances]
        source, statement, made = statement_of(scene, layer)
        what = bound(statement, layer.attribute)
        if what is None or not isinstance(what[0], cst.Attribute):
            raise Refused(f"where {layer.layer} is made its name is not in sight")
        number = _NUMBER.fullmatch(layer.attribute)
        wanted = f"scale{number[1]}" if number else "scale" if len(groups) == 1 else f"{layer.attribute}_scale"
        name = free(wanted, lambda one: one in names or any(hasattr(module, one) for module in instances))
        names.append(name)
        condition = _condition(scene, group, layers, source.of(what[0]))
        text = factor_text(scene, source, made.node if made is not None else None) + condition
        scene.change(source, source.below(statement, f"{source.of(what[0].value)}.{name} = {text}"))
        site = _site(scene, group, bool(condition))
        if not isinstance(site.func, cst.Attribute) or site.func.attr.value != layer.attribute:
            raise Refused(f"the place that calls {layer.layer} does not name it")
        _lead_around(scene, group, site, f"{site.source.of(site.func.value)}.{name}", bool(condition))


def with_list(scene: Scene, group: Sequence[Around]) -> None:
    """Shortcuts around blocks that begin with the layers of one list (or dict) of all modules of one class: the factors
    are a list beside it, which forward walks through beside it.

    Raises:
        Refused: with the reason.
    """
    first = group[0].layer
    owner_name, _, attribute = first.parent.rpartition(".")
    owner = scene.modules[owner_name]
    source, statement = bound_list(scene, owner, attribute)
    what = bound(statement, attribute)
    if what is None or not isinstance(what[0], cst.Attribute):
        raise Refused(f"{attribute} is made in a way that gradtool cannot follow in the source")
    owners = [module for module in scene.modules.values() if type(module) is type(owner)]
    called = {call.layer for call in scene.calls_at(first.called)}
    layers = [
        layer
        for name, layer in scene.modules.items()
        if name in called and any(layer in getattr(one, attribute, nn.ModuleList()).children() for one in owners)
    ]
    condition = _condition(scene, group, layers, "layer")
    site = _site(scene, group, bool(condition))
    name = free("scales", lambda one: any(hasattr(module, one) for module in owners))
    _lead_around(scene, group, site, walk(scene, site, attribute, name, "scale"), bool(condition))
    made = constructor(scene, first)
    node = made.node if made is not None and made.source is source else None
    factor = factor_text(scene, source, node) + condition
    whole = f"{source.of(what[0].value)}.{attribute}"
    if isinstance(first.holder, nn.ModuleDict):
        over = f"name, layer in {whole}.items()" if condition else f"name in {whole}"
        container, filled = "ParameterDict", ("{", f"name: {factor}", f"for {over}", "}")
    else:
        over = f"{'layer' if condition else '_'} in {whole}{_part(first.holder, called, first.parent)}"
        container, filled = "ParameterList", ("[", factor, f"for {over}", "]")
    begun = f"{source.of(what[0].value)}.{name} = {class_name(scene, source, node, container)}"
    text = _laid_out(source, source.indent_at(source.span(statement)[0]), begun, filled)
    around = [one.layer for one in group]
    scene.change(source, below_complete(scene, around, source, statement, attribute, text))


def _laid_out(source: Source, indent: str, begun: str, filled: tuple[str, str, str, str]) -> str:
    """A call with a comprehension in it, on as many lines as the width of the file's asks for."""
    (opened, value, over, closed), newline = filled, source.newline + indent
    step, width = source.module.default_indent, width_of(source.text)
    whole = f"{opened}{value} {over}{closed}"
    if len(f"{indent}{begun}({whole})") <= width:
        return f"{begun}({whole})"
    if len(f"{indent}{step}{whole}") <= width:
        return f"{begun}({newline}{step}{whole}{newline})"
    return f"{begun}({opened}{newline}{step}{value}{newline}{step}{over}{newline}{closed})"


def _part(holder: nn.Module, called: Collection[str], parent: str) -> str:
    """The slice of a list that has the layers which are called at one place; they are its first ones.

    Raises:
        Refused: they are not.
    """
    prefix = f"{parent}." if parent else ""
    keys = [prefix + key in called for key in holder._modules]
    count = sum(keys)
    if not all(keys[:count]):
        raise Refused(f"of the layers in {parent} only some need {_WHAT}, and not the first ones")
    return "" if count == len(keys) else f"[:{count - len(keys)}]" if count == len(keys) - 1 else f"[:{count}]"


def _condition(scene: Scene, group: Sequence[Around], layers: Sequence[nn.Module | None], layer: str) -> str:
    """The condition on which one of `layers`, which one place makes and calls, gets a factor: none where all do, or
    that it has as many outputs as inputs. `layer` is its expression.

    Raises:
        Refused: that does not tell them apart.
    """
    modules = [scene.modules[around.layer.layer] for around in group]
    chosen = {id(module) for module in modules}
    others = [module for module in layers if module is not None and id(module) not in chosen]
    if not others:
        return ""
    sizes = sizes_of(modules[0])
    if sizes is None or any(keeps_size(module) for module in others) or not all(map(keeps_size, modules)):
        raise Refused(f"one place makes {group[0].layer.layer} and layers that get no shortcut")
    return f" if {layer}.{sizes[0]} == {layer}.{sizes[1]} else None"


def _site(scene: Scene, group: Sequence[Around], with_others: bool) -> Site:
    """The one place that calls the layers of `group`, and others only if that is said."""
    first = group[0].layer
    site = site_of(scene, first)
    if site is None:
        raise Refused(f"the call of {first.layer} is not in your files")
    here, mine = set(scene.calls_at(first.called)), {around.layer.call for around in group}
    if not (mine <= here if with_others else mine == here):
        raise Refused(f"one place calls {first.layer} and layers that get no shortcut, or they are called at several")
    return site


# -- what forward does -------------------------------------------------------------------------------------------------


def _lead_around(scene: Scene, group: Sequence[Around], site: Site, factor: str, maybe: bool) -> None:
    """Adds what the layer at `site` reads, at the end of its block, which is one place too; `maybe`: only where there
    is a factor."""
    first, source, call = group[0], site.source, site.call
    found = scene.node_at(first.ended)
    name = first.layer.layer
    mine = {around.end for around in group}
    if found is None or not (scene.operations_at(first.ended) == mine or maybe):
        raise Refused(f"the block of {name} does not end at one place of its own in your files")
    end = found[1]
    if scope(found[0], end) is not scope(source, call) or comprehension(source, call) is not None:
        raise Refused(f"the block of {name} ends in another function than it begins in")
    begins, ends = source.statement(call), source.statement(end)
    if not _comes_after(source, begins, ends):
        raise Refused(f"forward does not come from the beginning of the block of {name} to its end in one go")
    read = _read(source, call, name)
    if scene.calling.intersection(every(read, cst.BaseExpression)):  # type: ignore[type-abstract]
        raise Refused(f"what {name} reads is computed where it is called, and has no name of its own in forward")
    text = source.of(read)
    simple = not any(every(read, cst.Call)) and not any(every(read, cst.NamedExpr))
    replaced: list[Splice] = []
    if not simple or names_in(read) & _bound_between(source, begins, ends):
        value, text = text, free_name(source, call, "shortcut")
        scene.change(source, source.above(begins, f"{text} = ({value})" if "\n" in value else f"{text} = {value}"))
        replaced = [Splice(*source.outer_span(read), text)] * (not simple)
    elif not isinstance(read, (cst.Name, cst.Attribute, cst.Subscript)):
        text = f"({text})"
    if not maybe:
        scene.change(source, *replaced, *_sum(source, end, f"{text} + {factor} * "))
        return
    if not isinstance(ends, (cst.Assign, cst.AnnAssign, cst.Return)) or ends.value is not end:
        raise Refused(f"the block of {name} ends within a larger expression")
    span, block = source.outer_span(end), free_name(source, end, "block")
    within = begins is ends  # what is replaced is in the text that moves
    scene.change(source, *replaced * (not within))
    scene.change(source, source.above(ends, f"{block} = {source.spliced(replaced if within else [], *span)}"))
    scene.change(source, Splice(*span, f"{block} if {factor} is None else {text} + {factor} * {block}"))


def _comes_after(source: Source, first: cst.BaseSmallStatement, last: cst.BaseSmallStatement) -> bool:
    """Whether whenever `last` is reached `first` was, in the same turn of the same loop."""
    body = source.parent(source.parent(first) or first)
    for around in source.parents(last):
        if around is body:
            return True
        if not isinstance(around, (cst.SimpleStatementLine, cst.IndentedBlock, cst.If, cst.Else, cst.With)):
            return False
    return False


def _sum(source: Source, end: cst.BaseExpression, before: str) -> list[Splice]:
    """The changes by which `end` becomes a factor of the last summand of a sum."""
    start, stop = source.outer_span(end)
    opened, closed = ("", "") if end.lpar or isinstance(end, cst.Call) else ("(", ")")
    if not isinstance(source.parent(end), _PLAIN):
        before, closed = f"({before}", f"{closed})"
    return [Splice(start, start, before + opened), *([Splice(stop, stop, closed)] if closed else [])]


def _read(source: Source, call: cst.BaseExpression, name: str) -> cst.BaseExpression:
    """What a layer is called with."""
    if isinstance(call, cst.Call) and call.args and not call.args[0].star:
        keyword = call.args[0].keyword
        if keyword is None or keyword.value == "input":
            return call.args[0].value
    raise Refused(f"the place that calls {name} does not name what it reads ({source.of(call)})")


def _bound_between(source: Source, first: cst.BaseSmallStatement, last: cst.BaseSmallStatement) -> set[str]:
    """The names that get a value from `first` on, before `last` is reached."""
    start, stop = source.span(first)[0], source.span(last)[0]
    inside = scope(source, first)
    names: set[str] = set()
    binding = (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.NamedExpr, cst.Element)
    for node in every(inside, cst.Name) if inside is not None else ():
        if isinstance(source.parent(node), binding) and start <= source.span(node)[0] < stop:
            names.add(node.value)
    return names
