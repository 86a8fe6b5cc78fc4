"""Where forward goes through a list of layers, and what stands beside each is reached there."""

from __future__ import annotations

import libcst as cst

from gradcheck_tool.remedy.patch.calls import Site, free_variable, loop_around, sites_of
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Scene, Wanted
from gradcheck_tool.remedy.patch.source import Source, Splice, attributes, last_name

_UNKNOWN_WALK = "forward goes through {} in a way that gradtool cannot follow"


def is_walked(scene: Scene, wanted: Wanted) -> bool:
    """Whether forward calls a layer of a list one by one, and not the list as a whole."""
    try:
        site = sites_of(scene, [wanted])[0]
    except Refused:
        return False
    return walks(site, wanted.parent.rpartition(".")[2])


def walks(site: Site, attribute: str) -> bool:
    """Whether a place calls one element of a list after the other."""
    if isinstance(site.func, cst.Subscript):
        return last_name(site.func.value) == attribute
    loop = loop_around(site.source, site.call, site.func.value) if isinstance(site.func, cst.Name) else None
    if loop is None:
        return False
    return bool(attributes(loop.iter, attribute))


def walk(scene: Scene, site: Site, attribute: str, name: str, word: str = "norm") -> str:
    """The expression of what stands beside a layer of a list, at the place that calls the layers: an element of the
    list `name`. Where the header of the loop has to bind it, as a variable called about `word`, that is changed.

    Raises:
        Refused: forward goes through the list in a way that cannot be followed.
    """
    source, func = site.source, site.func
    if isinstance(func, cst.Subscript) and last_name(func.value) == attribute:
        return _beside(source, func, attribute, name)
    loop = loop_around(source, site.call, func.value) if isinstance(func, cst.Name) else None
    if loop is None or not isinstance(func, cst.Name):
        raise Refused(_UNKNOWN_WALK.format(attribute))
    over, target = loop.iter, loop.target
    expression = _indexed(source, over, target, func.value, attribute, name)
    if expression is not None:
        return expression
    if site.around is not site.call:
        raise Refused(_UNKNOWN_WALK.format(attribute))
    variable = free_variable(source, site.call, func.value, word)
    scene.change(source, *_zipped(source, over, target, func.value, attribute, name, variable))
    return variable


def _beside(source: Source, node: cst.BaseExpression, attribute: str, name: str) -> str:
    """The text of an expression with the list of norms in the place of the list of layers."""
    found = attributes(node, attribute)
    start, end = source.span(node)
    if not found:
        raise Refused(_UNKNOWN_WALK.format(attribute))
    at, to = source.span(found[0].attr)
    return source.text[start:at] + name + source.text[to:end]


def _is_list(node: cst.BaseExpression, attribute: str) -> bool:
    """Whether an expression is the list, or a slice of it."""
    if isinstance(node, cst.Subscript) and isinstance(node.slice[0].slice, cst.Slice):
        return _is_list(node.value, attribute)
    return isinstance(node, cst.Attribute) and node.attr.value == attribute


def _indexed(
    source: Source, over: cst.BaseExpression, target: cst.BaseExpression, called: str, attribute: str, name: str
) -> str | None:
    """`self.norms[i]` in a loop over `enumerate(self.body)`, `self.norms[key]` in one over `self.body.items()`."""
    if not isinstance(over, cst.Call) or not isinstance(target, cst.Tuple) or len(target.elements) != 2:
        return None
    key, value = (element.value for element in target.elements)
    if not isinstance(key, cst.Name):
        return None
    if last_name(over.func) == "enumerate" and len(over.args) == 1:
        inner = over.args[0].value
        if isinstance(value, cst.Name) and value.value == called and _from_start(inner, attribute):
            return f"{_list_text(source, inner, attribute, name)}[{key.value}]"
        if isinstance(value, cst.Tuple) and isinstance(inner, cst.Call) and last_name(inner.func) == "zip":
            for element, argument in zip(value.elements, inner.args, strict=False):
                bound = isinstance(element.value, cst.Name) and element.value.value == called
                if bound and _from_start(argument.value, attribute):
                    return f"{_list_text(source, argument.value, attribute, name)}[{key.value}]"
    if (
        last_name(over.func) == "items"
        and isinstance(over.func, cst.Attribute)
        and _is_list(over.func.value, attribute)
        and isinstance(value, cst.Name)
        and value.value == called
    ):
        return f"{_list_text(source, over.func.value, attribute, name)}[{key.value}]"
    return None


def _from_start(node: cst.BaseExpression, attribute: str) -> bool:
    """Whether a slice of the list, if it is one, begins with the first element."""
    if isinstance(node, cst.Subscript) and isinstance(node.slice[0].slice, cst.Slice):
        part = node.slice[0].slice
        return part.lower is None and part.step is None and _is_list(node, attribute)
    return _is_list(node, attribute)


def _list_text(source: Source, node: cst.BaseExpression, attribute: str, name: str) -> str:
    """`self.norms` of `self.body` and of `self.body[:-1]`."""
    while isinstance(node, cst.Subscript):
        node = node.value
    assert isinstance(node, cst.Attribute)
    return f"{source.of(node.value)}.{name}"


def _zipped(
    source: Source,
    over: cst.BaseExpression,
    target: cst.BaseExpression,
    called: str,
    attribute: str,
    name: str,
    variable: str,
) -> list[Splice]:
    """The changes of a loop's header by which `variable` runs through the norms beside the layers."""
    unknown = Refused(_UNKNOWN_WALK.format(attribute))
    if isinstance(over, cst.Call) and last_name(over.func) == "zip" and isinstance(target, cst.Tuple):
        for element, argument in zip(target.elements, over.args, strict=False):
            bound = isinstance(element.value, cst.Name) and element.value.value == called
            if bound and _is_list(argument.value, attribute):
                last = [one.value for one in over.args if one.keyword is None and not one.star]
                at, to = source.outer_span(target.elements[-1].value)[1], source.outer_span(last[-1])[1]
                beside = _list_text(source, argument.value, attribute, name)
                return [Splice(at, at, f", {variable}"), Splice(to, to, f", {beside}")]
        raise unknown
    if not isinstance(target, cst.Name) or target.value != called:
        raise unknown
    layers = over
    norms: str | None = None
    if isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute) and over.func.attr.value == "values":
        if _is_list(over.func.value, attribute):
            norms = f"{_list_text(source, over.func.value, attribute, name)}.values()"
    elif isinstance(over, cst.Call) and last_name(over.func) == "reversed" and _is_list(over.args[0].value, attribute):
        norms = f"reversed({_list_text(source, over.args[0].value, attribute, name)})"
    elif _is_list(over, attribute):
        norms = _list_text(source, over, attribute, name)
    if norms is None:
        raise unknown
    at = source.span(target)[1]
    start, end = source.outer_span(layers)
    return [Splice(at, at, f", {variable}"), Splice(start, start, "zip("), Splice(end, end, f", {norms})")]
