"""Less dropout → a proposal: another number where the dropout is made, or where the name that it is made with gets its
value, if that serves no dropout that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import libcst as cst
from torch import nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.remedy.base import Step
from gradcheck_tool.remedy.dropout import DropoutChange
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.scene import Made, Scene
from gradcheck_tool.remedy.patch.source import Source, Splice, every, gives, last_name
from gradcheck_tool.remedy.patch.spelling import argument_of
from gradcheck_tool.sources import Stack


def propose_dropouts(
    model: nn.Module, structure: Structure, steps: Sequence[Step], origins: Mapping[str, Stack]
) -> Proposal:
    """The change of the user's files that gives the dropouts of `steps` their new probabilities.

    Raises:
        Refused: with the reason, where there is none.
    """
    scene = Scene(model, structure, (), origins)
    wanted = {step.module: step for step in steps if isinstance(step, DropoutChange)}
    for name, step in wanted.items():
        calls = list(scene.made(origins.get(name, ())))
        cls = type(scene.modules[name]).__name__
        if not calls or not isinstance(calls[0].node, cst.Call) or last_name(calls[0].node.func) != cls:
            raise Refused(f"{name} is not made by its name in your files")
        beside = [other for other in scene.made_at(calls[0].spot) if type(scene.modules[other]).__name__ == cls]
        if not wanted.keys() >= set(beside):
            raise Refused(f"one place makes {name} and dropouts that stay")
        scene.change(*_number(calls, name, f"{step.new:g}"))
    return scene.proposal()


def _number(calls: Sequence[Made], name: str, new: str) -> tuple[Source, Splice]:
    """The change by which the probability that a dropout is made with is `new`; `calls` were running when it was made,
    its own constructor first."""
    source, call = calls[0].source, calls[0].node
    assert isinstance(call, cst.Call)
    given = _given(call, 0, "p", name)
    if given is None:
        start = source.span(call.args[0])[0] if call.args else source.span(call)[1] - 1
        return source, Splice(start, start, f"{new}, " if call.args else new)
    source, value = _followed(calls, given, name)
    if not isinstance(value, (cst.Float, cst.Integer)):
        raise Refused(f"the probability of {name} is computed ({source.of(value)})")
    return source, Splice(*source.span(value), new)


def _followed(calls: Sequence[Made], value: cst.BaseExpression, name: str) -> tuple[Source, cst.BaseExpression]:
    """What a value in the first of `calls` comes from: a variable is followed to what the function around was called
    with, else to its default, or to a constant at the top of the file."""
    source = calls[0].source
    if not isinstance(value, cst.Name):
        return source, value
    function = next((one for one in source.parents(calls[0].node) if isinstance(one, cst.FunctionDef)), None)
    if function is not None:
        params = [*function.params.posonly_params, *function.params.params]
        at = next((at for at, param in enumerate(params) if param.name.value == value.value), -1)
        param = next((one for one in (*params, *function.params.kwonly_params) if one.name.value == value.value), None)
        if param is not None:
            outer = calls[1].node if len(calls) > 1 else None
            bound = int(bool(params) and params[0].name.value in ("self", "cls"))
            given = _given(outer, at - bound, value.value, name) if isinstance(outer, cst.Call) else None
            if given is not None:
                return _followed(calls[1:], given, name)
            if param.default is None:
                raise Refused(f"the probability of {name} is an argument that is given elsewhere ({value.value})")
            return source, param.default
    values = [one.value for one in source.top_level if isinstance(one, cst.Assign) and gives(one, value.value)]
    local = function is not None and any(gives(one, value.value) for one in every(function, cst.Assign))
    if local or len(values) != 1:
        raise Refused(f"where the probability of {name} gets its value is not in sight ({value.value})")
    return source, values[0]


def _given(call: cst.Call, position: int, keyword: str, name: str) -> cst.BaseExpression | None:
    """The argument of a call at a position, or of a keyword; None where it has none."""
    if any(argument.star for argument in call.args):
        raise Refused(f"the probability of {name} is in no argument of its own")
    return argument_of(call, position, keyword)
