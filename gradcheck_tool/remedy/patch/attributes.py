"""A layer, or a functional layer's weight, that is an attribute of a class with a forward of its own: the norm is an
attribute beside it, and its calls are wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import libcst as cst
from torch import nn

from gradcheck_tool.ops import operation_name
from gradcheck_tool.remedy.patch.calls import Site, free_variable, loop_around, sites_of
from gradcheck_tool.remedy.patch.classes import bound, statement_of
from gradcheck_tool.remedy.patch.names import free, named_after, numbering
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Scene, Wanted
from gradcheck_tool.remedy.patch.source import Source, Splice, attributes, last_name
from gradcheck_tool.remedy.patch.spelling import has_numbers_alone, size_attribute, tensor_size
from gradcheck_tool.remedy.patch.writing import norm_text


def insert_attribute(scene: Scene, group: Sequence[Wanted], names: Mapping[str, str]) -> None:
    """Inserts the norms of `group`, those behind one attribute of all modules of one class; `names` are those of the
    norms of that class, by the layer's attribute.

    Raises:
        Refused: with the reason.
    """
    first = group[0]
    if isinstance(first.holder, (nn.ParameterList, nn.ParameterDict)):
        raise Refused(f"{first.layer} is a bare parameter in a list, beside which gradtool puts no norms")
    _require_all_instances(scene, group)
    source, statement, made = statement_of(scene, first)
    what = bound(statement, first.attribute)
    if what is None:
        raise Refused(f"where {first.layer} is made its name is not in sight")
    sites = sites_of(scene, group)
    per_layer = {wanted.layer: 0 for wanted in group}
    for wanted in group:
        per_layer[wanted.layer] += 1
    if any(count != len(sites) for count in per_layer.values()):
        raise Refused(f"not every module of its class calls {first.attribute} at the same places")
    name = names[first.attribute]
    text = norm_text(scene, source, statement, made, group, _size(source, statement, what[0], first))
    instances = [module for module in scene.modules.values() if type(module) is type(first.holder)]
    for count, site in enumerate(sites):
        own = name if count == 0 else free(f"{name}_{count + 1}", lambda one: any(hasattr(m, one) for m in instances))
        line = _with_bias(source, statement, site) if not first.is_module else statement
        scene.change(
            source, source.below(line, _binds(source, what[0], own, text, count, numbering(first.attribute, own)))
        )
        scene.change(site.source, *_through(site, first, own, names))


def _require_all_instances(scene: Scene, group: Sequence[Wanted]) -> None:
    """All modules of a class share its source, so each has to need the norm."""
    first = group[0]
    having = {
        id(module)
        for module in scene.modules.values()
        if type(module) is type(first.holder) and getattr(module, first.attribute, None) is not None
    }
    if having != {id(wanted.holder) for wanted in group}:
        raise Refused(
            f"of the {len(having)} modules of the class {type(first.holder).__name__} only some need a norm behind "
            f"{first.attribute}"
        )


def _size(
    source: Source, statement: cst.BaseSmallStatement, what: cst.Attribute | cst.Call, wanted: Wanted
) -> str | None:
    """The size of a layer, for where its constructor has none: `self.fc1.out_features`; of a functional layer, that of
    the tensor which is made its weight."""
    if not wanted.is_module:
        name = operation_name(wanted.call.node)
        dim = 1 if name.startswith("conv_transpose") else 0 if name.startswith(("linear", "conv", "bilinear")) else -1
        size = tensor_size(source, statement, dim)
        number = size is not None and size.isdigit()
        return None if number and size != str(wanted.insertion.num_features) else size
    layer = getattr(wanted.holder, wanted.attribute, None)
    value = statement.value if isinstance(statement, (cst.Assign, cst.AnnAssign)) else None
    if not isinstance(layer, nn.Module) or not isinstance(what, cst.Attribute) or has_numbers_alone(value):
        return None
    attribute = size_attribute(layer)
    return f"{source.of(what)}.{attribute}" if hasattr(layer, attribute) else None


def _with_bias(source: Source, statement: cst.BaseSmallStatement, site: Site) -> cst.BaseSmallStatement:
    """The statement that makes the bias of a functional layer, where it comes directly behind that of the weight."""
    line = source.parent(statement)
    body = getattr(source.parent(line), "body", ()) if line is not None else ()
    at = list(body).index(line) + 1 if line in body else len(body)
    following = body[at] if at < len(body) else None
    if isinstance(following, cst.SimpleStatementLine) and isinstance(following.body[0], cst.Assign):
        target = following.body[0].targets[0].target
        expression = site.call
        around = source.parent(expression) if isinstance(expression, cst.BinaryOperation) else None
        used = (
            around if isinstance(around, cst.BinaryOperation) and isinstance(around.operator, cst.Add) else expression
        )
        if isinstance(target, cst.Attribute) and _weight_holder(site.source, used, target.attr.value) is not None:
            return following.body[0]
    return statement


def _binds(source: Source, what: cst.Attribute | cst.Call, name: str, norm: str, count: int, short: str | None) -> str:
    """The statement that makes the norm an attribute, as `what` does the layer."""
    if isinstance(what, cst.Attribute):
        return f"{source.of(what.value)}.{name} = {norm}"
    at = 1 if last_name(what.func) == "setattr" else 0
    node = what.args[at].value
    named = f'"{name}"' if isinstance(node, cst.SimpleString) else named_after(node, source.of(node), short)
    if named is None or (count and not isinstance(node, cst.SimpleString)):
        raise Refused("the name that the norm would have cannot be told")
    if at == 1:
        return f"{source.of(what.func)}({source.of(what.args[0].value)}, {named}, {norm})"
    return f"{source.of(what.func)}({named}, {norm})"


def _through(site: Site, wanted: Wanted, name: str, names: Mapping[str, str]) -> list[Splice]:
    """The changes by which a place that calls the layer calls the norm behind it."""
    func, source = site.func, site.source
    loop = loop_around(source, site.call, func.value) if isinstance(func, cst.Name) else None
    if isinstance(func, cst.Name) and loop is not None and isinstance(loop.iter, (cst.Tuple, cst.List)):
        return _zipped(site, loop, func.value, names)
    return site.wrapped(_called(site, wanted, name))


def _zipped(site: Site, loop: cst.For, called: str, names: Mapping[str, str]) -> list[Splice]:
    """`for fc in (self.fc1, self.fc2)`, with the norms beside the layers."""
    source, over = site.source, loop.iter
    assert isinstance(over, (cst.Tuple, cst.List))
    norms = []
    for element in over.elements:
        layer = element.value
        if (
            not isinstance(layer, cst.Attribute)
            or layer.attr.value not in names
            or not isinstance(loop.target, cst.Name)
        ):
            raise Refused(f"forward goes through {source.of(over)} in a way that gradtool cannot follow")
        norms.append(f"{source.of(layer.value)}.{names[layer.attr.value]}")
    variable = free_variable(source, site.call, called)
    at = source.span(loop.target)[1]
    start, end = source.outer_span(over)
    opening, closing = ("[", "]") if isinstance(over, cst.List) else ("(", ")")
    bare = isinstance(over, cst.Tuple) and not over.lpar
    beside = f"{opening}{', '.join(norms)}{closing}"
    return [
        Splice(at, at, f", {variable}"),
        Splice(start, start, "zip((" if bare else "zip("),
        Splice(end, end, f"){', '}{beside})" if bare else f", {beside})"),
        *site.wrapped(variable),
    ]


def _called(site: Site, wanted: Wanted, name: str) -> str:
    """The expression of the norm at a place that calls the layer."""
    func, source = site.func, site.source
    short = numbering(wanted.attribute, name)
    if not wanted.is_module:
        holder = _weight_holder(source, site.call, wanted.attribute)
        if holder is None:
            raise Refused(f"the call that uses {wanted.layer} does not name it")
        return f"{holder}.{name}"
    if isinstance(func, cst.Attribute) and func.attr.value == wanted.attribute:
        return f"{source.of(func.value)}.{name}"
    if isinstance(func, cst.Call) and last_name(func.func) == "getattr" and len(func.args) >= 2:
        named = named_after(func.args[1].value, source.of(func.args[1].value), short)
        if named is not None:
            return f"{source.of(func.func)}({source.of(func.args[0].value)}, {named})"
    if isinstance(func, cst.Subscript) and last_name(func.value) == "_modules":
        index = func.slice[0].slice
        if isinstance(index, cst.Index):
            named = named_after(index.value, source.of(index.value), short)
            if named is not None:
                return f"{source.of(func.value)}[{named}]"
    raise Refused(f"the place that calls {wanted.layer} does not name it")


def _weight_holder(source: Source, node: cst.CSTNode, attribute: str) -> str | None:
    """`self` of the `self.w1` that a functional layer is given."""
    found = attributes(node, attribute)
    return source.of(found[0].value) if found else None
