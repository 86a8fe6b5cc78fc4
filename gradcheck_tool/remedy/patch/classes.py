"""Where the classes of a model are written, and where their methods bind an attribute."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType

import libcst as cst
from torch import nn

from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Layer, Made, Scene
from gradcheck_tool.remedy.patch.source import Source, every, last_name, nodes_in
from gradcheck_tool.remedy.patch.writing import constructor
from gradcheck_tool.sources import rank

_NAMING_CALLS = ("setattr", "add_module", "register_module", "register_parameter")


def classes_of(scene: Scene, module: nn.Module) -> Iterator[tuple[Source, cst.ClassDef]]:
    """The definitions of the class of `module` and of its bases, as far as they are in the user's files."""
    for cls in type(module).__mro__:
        files = {
            value.__code__.co_filename
            for value in vars(cls).values()
            if isinstance(value, FunctionType) and value.__qualname__.startswith(cls.__qualname__ + ".")
        }
        for filename in files:
            if rank(filename) == 0:
                source = scene.source(filename)
                found = _definition(source, cls.__name__)
                if found is not None:
                    yield source, found


def _definition(source: Source, name: str) -> cst.ClassDef | None:
    found = [definition for definition in every(source.module, cst.ClassDef) if definition.name.value == name]
    return found[-1] if found else None


def statements_in(node: cst.CSTNode) -> list[cst.BaseSmallStatement]:
    """The small statements in a definition, in their order."""
    return [found for found in nodes_in(node) if isinstance(found, cst.BaseSmallStatement)]


def bound(statement: cst.BaseSmallStatement, attribute: str) -> tuple[cst.Attribute | cst.Call, bool] | None:
    """What binds `attribute` in a statement: `self.fc1` in `self.fc1 = …`, or a call such as `setattr(self, name, …)`,
    and whether the name is spelled out there."""
    if isinstance(statement, (cst.Assign, cst.AnnAssign)):
        targets = [target.target for target in statement.targets] if isinstance(statement, cst.Assign) else []
        targets += [statement.target] if isinstance(statement, cst.AnnAssign) else []
        for target in targets:
            several = target.elements if isinstance(target, (cst.Tuple, cst.List)) else ()
            for one in [element.value for element in several] or [target]:
                if isinstance(one, cst.Attribute) and one.attr.value == attribute:
                    return one, True
    if isinstance(statement, cst.Expr) and isinstance(statement.value, cst.Call):
        call = statement.value
        if last_name(call.func) in _NAMING_CALLS and len(call.args) >= 2:
            name = call.args[1 if last_name(call.func) == "setattr" else 0].value
            if isinstance(name, cst.SimpleString):
                return (call, True) if name.raw_value == attribute else None
            return call, False
    return None


def binding(scene: Scene, module: nn.Module, attribute: str) -> tuple[Source, cst.BaseSmallStatement] | None:
    """The last statement in the class of `module` that binds `attribute`, by its name."""
    for source, definition in classes_of(scene, module):
        found = [one for one in statements_in(definition) if (what := bound(one, attribute)) and what[1]]
        if found:
            return source, found[-1]
    return None


def statement_of(scene: Scene, layer: Layer) -> tuple[Source, cst.BaseSmallStatement, Made | None]:
    """The statement that makes a layer an attribute, and what constructs the layer, where that is in the statement.

    Raises:
        Refused: it is not in the user's files.
    """
    maker = constructor(scene, layer)
    for made in scene.made(layer.stack):
        try:
            statement = made.source.statement(made.node)
        except Refused:
            continue
        if bound(statement, layer.attribute) is not None:
            inside = maker is not None and maker.source is made.source and statement in maker.source.parents(maker.node)
            return made.source, statement, maker if inside else None
    found = binding(scene, layer.holder, layer.attribute)
    if found is None:
        raise Refused(f"the place at which {layer.layer} is made is not in your files")
    return (*found, maker)
