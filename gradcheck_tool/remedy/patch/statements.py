"""The statements that build a model around the one that makes it: what it is called, how far they go, where it is
returned."""

from __future__ import annotations

from collections.abc import Collection

import libcst as cst

from gradcheck_tool.remedy.patch.source import Source, dotted, every, last_name
from gradcheck_tool.remedy.patch.writing import scope


def targets(statement: cst.CSTNode) -> list[str]:
    """The variables or attributes that a statement gives its value to; none where it gives it to anything else."""
    given: list[cst.BaseExpression] = []
    if isinstance(statement, cst.Assign):
        given = [target.target for target in statement.targets]
    elif isinstance(statement, cst.AnnAssign):
        given = [statement.target]
    names = list(map(dotted, given))
    return names if all(names) else []


def returns(source: Source, function: cst.CSTNode, names: Collection[str]) -> list[cst.Return]:
    """Where the function returns the model by one of its names; else where it returns anything at its end."""
    own = [one for one in every(function, cst.Return) if scope(source, one) is function]
    named = [one for one in own if one.value is not None and dotted(one.value) in names]
    body = getattr(getattr(function, "body", None), "body", ())
    return named or [one for one in own[-1:] if one.value is not None and source.parent(one) in body[-1:]]


def last_beside(source: Source, line: cst.CSTNode | None, names: Collection[str]) -> cst.CSTNode:
    """The last of the statements directly behind `line` that go on with the model: `for layer in model: …`."""
    assert line is not None
    block = source.parent(line)
    body = list(getattr(block, "body", ()))
    at = body.index(line) if line in body else len(body)
    last = line
    for one in body[at + 1 :]:
        if not _goes_on(one, names):
            break
        last = one
    return last


def _goes_on(statement: cst.CSTNode, names: Collection[str]) -> bool:
    """Whether a statement still builds the model: `for layer in model: …`, `model.apply(…)`, `model = model.to(…)`."""
    if isinstance(statement, cst.For):
        trains = any(last_name(call.func) in ("backward", "step") for call in every(statement, cst.Call))
        return _mentions(statement, names) and not trains
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    return all(
        _mentions(one, names) and (isinstance(one, (cst.Expr, cst.AugAssign)) or targets(one)[:1] == [*names][:1])
        for one in statement.body
    )


def _mentions(node: cst.CSTNode, names: Collection[str]) -> bool:
    return any(dotted(one) in names for one in (*every(node, cst.Name), *every(node, cst.Attribute)))
