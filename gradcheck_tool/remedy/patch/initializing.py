"""New weights → proposals: lines that draw them, written where the model is complete: at the end of its class's
`__init__`, else behind the place that builds the model, and before a function there returns it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import CodeType, FrameType, FunctionType

import libcst as cst
from torch import nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.remedy.base import Step
from gradcheck_tool.remedy.layers import Layout, call_named, layout_of
from gradcheck_tool.remedy.patch.classes import classes_of, statements_in
from gradcheck_tool.remedy.patch.drawing_code import Draw, code, is_constant
from gradcheck_tool.remedy.patch.imports import module_name
from gradcheck_tool.remedy.patch.names import free
from gradcheck_tool.remedy.patch.pieces import Piece, access, pieces_of
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.scene import Scene
from gradcheck_tool.remedy.patch.source import Source, Splice, every
from gradcheck_tool.remedy.patch.statements import last_beside, returns, targets
from gradcheck_tool.remedy.patch.styling import Style, width_of
from gradcheck_tool.remedy.patch.writing import class_name, scope
from gradcheck_tool.remedy.reinitialize import Reinitialization
from gradcheck_tool.sources import Stack, Where

_ENDLESS = 30
"""Layers from which explicit names are no natural code any more."""

Lines = Callable[[Scene, Source, str, cst.CSTNode | None, str], list[str]]
"""The lines for a model of that expression, in that file and function (None: at the top of the file), by the
indentation of one level."""


def draws_of(model: nn.Module, structure: Structure, steps: Sequence[Step]) -> list[Draw]:
    """What the steps of `reinit` draw, in the order in which the model has its parameters."""
    calls = [{call.name: call for call in structure.calls}]
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    modules = dict(model.named_modules())
    draws = []
    for step in steps:
        if not isinstance(step, Reinitialization):
            raise Refused("only new weights can be written as lines that draw them")
        layout = layout_of(call_named(step.layer, calls)[0], model)
        if not isinstance(layout, Layout) or step.parameter not in shapes:
            raise Refused(f"the weight of {step.layer} has another name in the model")
        owner, _, attribute = step.parameter.rpartition(".")
        own = attribute == "weight" and owner in modules and step.bias in (None, f"{owner}.bias".removeprefix("."))
        layer = owner if own else None
        values = (step.bias, step.gain, step.centre, step.scheme, layout, shapes[step.parameter])
        linear = layer is not None and isinstance(modules[layer], nn.Linear)
        draws.append(Draw(layer, step.parameter, *values, has_features=linear))
    order = {name: at for at, name in enumerate(shapes)}
    return sorted(draws, key=lambda draw: order[draw.weight])


def propose_draws(
    model: nn.Module, structure: Structure, draws: Sequence[Draw], origins: Mapping[str, Stack]
) -> Iterator[Proposal]:
    """Changes of the user's files that draw these weights, the most natural first.

    Args:
        model: that was loaded from those files.
        structure: of the recording that the plan was made from.
        draws: what is drawn.
        origins: what was running when each module was made, the model itself ("") too.

    Raises:
        Refused: with the reason, where there is no way at all; at the first step of the iteration.
    """

    def lines(scene: Scene, source: Source, root: str, around: cst.CSTNode | None, indent: str) -> list[str]:
        return _lines(scene, source, model, draws, root, around, indent)

    refusal: Refused | None = None
    seen: list[Proposal] = []
    is_own = next(classes_of(Scene(model, structure, (), origins), model), None) is not None
    running = _running()
    ways = [*[_in_class] * is_own, *(_behind(where) for where in origins.get("", ()) if where[0] not in running)]
    for way in ways:
        scene = Scene(model, structure, (), origins)
        try:
            way(scene, lines)
            proposal = scene.proposal()
        except Refused as error:
            refusal = refusal or error
            continue
        if proposal.after and proposal not in seen:
            seen.append(proposal)
            yield proposal
    if not seen:
        raise refusal or Refused("no place in your files was seen to build the model")


def _lines(
    scene: Scene,
    source: Source,
    model: nn.Module,
    draws: Sequence[Draw],
    root: str,
    around: cst.CSTNode | None,
    indent: str,
) -> list[str]:
    taken = _taken(source, around) | {root}
    modules = dict(model.named_modules())

    def spell(name: str) -> str:
        return class_name(scene, source, None, name)

    layers = {draw.layer: draw for draw in draws if draw.layer is not None}
    pieces: list[Piece[Draw]] = pieces_of(model, layers, root, spell, is_constant)
    for draw in draws:
        if draw.layer is None:
            texts = (access(modules, draw.weight, root), access(modules, draw.bias, root) if draw.bias else "")
            pieces.append(Piece(texts[0], (replace(draw, spelled=texts),)))
    if len(pieces) > _ENDLESS:
        raise Refused(f"{len(pieces)} layers would have to be named one by one")
    known = module_name(source)
    if known is None:
        scene.require(source, "init")
    init = "init" if known is None else f"{known}.init"
    width = width_of(source.text) - (2 * len(indent) if around is not None else 0)
    return code(pieces, Style(init, lambda wanted: free(wanted, taken.__contains__), indent, width))


def _taken(source: Source, around: cst.CSTNode | None) -> set[str]:
    """The names that the lines must not use: at the top of a file all that are used there, in a function those that a
    function inside it could still read."""
    if around is None:
        return {name.value for name in every(source.module, cst.Name)}
    inner = [node for kind in (cst.FunctionDef, cst.Lambda) for node in every(around, kind) if node is not around]
    return {name.value for node in inner for name in every(node, cst.Name)}


# -- in the model's class ---------------------------------------------------------------------------------------------


def _in_class(scene: Scene, lines: Lines) -> None:
    cls = type(scene.model)
    source, definition = next(classes_of(scene, scene.model), (None, None))
    if source is None or definition is None or definition.name.value != cls.__name__:
        raise Refused(f"{cls.__name__} is no class of your files")
    if not isinstance(definition.body, cst.IndentedBlock):
        raise Refused(f"the class {cls.__name__} is written on one line")
    step = source.module.default_indent
    own = vars(cls).get("__init__")
    if isinstance(own, FunctionType):
        init = next((one for one in definition.body.body if _is_function(one, "__init__")), None)
        if not isinstance(init, cst.FunctionDef) or not isinstance(init.body, cst.IndentedBlock):
            raise Refused(f"the __init__ of {cls.__name__} is not written as a block in its class")
        root = next((one.name.value for one in (*init.params.posonly_params, *init.params.params)), "")
        if not root:
            raise Refused(f"the __init__ of {cls.__name__} does not name the model")
        _add_below(scene, source, init.body.body[-1], lines(scene, source, root, init, step))
        return
    first = next((one for one in definition.body.body if isinstance(one, cst.FunctionDef)), None)
    if first is None:
        raise Refused(f"the class {cls.__name__} has no methods")
    indent = source.indent_at(source.span(first.body)[0]) if isinstance(first.body, cst.IndentedBlock) else ""
    body = ["super().__init__(*args, **kwargs)", *lines(scene, source, "self", definition, step)]
    text = ["def __init__(self, *args, **kwargs):", *(step + line for line in body), ""]
    decorators = first.decorators
    start = source.line_start(source.span(decorators[0] if decorators else first)[0])
    indent = source.indent_at(start)
    scene.change(source, Splice(start, start, _block(source, text, indent)))


def _is_function(node: cst.CSTNode, name: str) -> bool:
    return isinstance(node, cst.FunctionDef) and node.name.value == name


# -- where the model is built -----------------------------------------------------------------------------------------


def _running() -> frozenset[CodeType]:
    """The code that called gradtool, and so loaded the target: no part of it."""
    frame: FrameType | None = sys._getframe()
    found = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return frozenset(found)


def _behind(where: Where) -> Callable[[Scene, Lines], None]:
    """A way: behind the statement of which a point was running while the model was built."""

    def way(scene: Scene, lines: Lines) -> None:
        found = scene.node_at(where)
        if found is None:
            raise Refused("no place in your files was seen to build the model")
        source, node = found
        statement = source.statement(node)
        function = scope(source, node)
        line = source.parent(statement)
        if isinstance(function, (cst.ClassDef, cst.Lambda)) or isinstance(line, cst.SimpleStatementSuite):
            raise Refused("the model is built in the middle of a line")
        around = function if isinstance(function, cst.FunctionDef) else None
        step = source.module.default_indent
        if isinstance(statement, cst.Return) and statement.value is not None:
            _before_return(scene, source, statement, around, lines)
            return
        names = targets(statement)
        if not names:
            raise Refused("the model is built inside a larger statement, which gives it no name")
        leaving = returns(source, around, names) if around is not None else []
        if leaving:
            for one in leaving:
                _add_above(scene, source, one, lines(scene, source, names[0], around, step))
            return
        last = last_beside(source, line, names)
        _add_below(scene, source, last, lines(scene, source, names[0], around, step))

    return way


def _before_return(
    scene: Scene, source: Source, statement: cst.Return, around: cst.CSTNode | None, lines: Lines
) -> None:
    """`return build()` → `model = build()`, the lines, `return model`."""
    assert statement.value is not None
    used = {name.value for name in every(around or source.module, cst.Name)}
    root = free("model", used.__contains__)
    start, _ = source.span(statement)
    value_start, value_end = source.outer_span(statement.value)
    added = lines(scene, source, root, around, source.module.default_indent)
    indent = source.indent_at(start)
    scene.change(source, Splice(start, value_start, f"{root} = "))
    text = _block(source, [*added, f"return {root}"], indent)
    scene.change(source, source.line_after(value_end, text.removesuffix(source.newline)))


# -- text -------------------------------------------------------------------------------------------------------------


def _block(source: Source, lines: Sequence[str], indent: str) -> str:
    return "".join(f"{indent}{line}".rstrip() + source.newline for line in lines)


def _add_below(scene: Scene, source: Source, statement: cst.CSTNode, lines: Sequence[str]) -> None:
    start, end = source.span(statement)
    inner = [source.span(one)[1] for one in statements_in(statement)]
    end = max(inner, default=end)
    text = _block(source, lines, source.indent_at(start))
    scene.change(source, source.line_after(end, text.removesuffix(source.newline)))


def _add_above(scene: Scene, source: Source, statement: cst.BaseSmallStatement, lines: Sequence[str]) -> None:
    start = source.line_start(source.span(statement)[0])
    scene.change(source, Splice(start, start, _block(source, lines, source.indent_at(start))))
