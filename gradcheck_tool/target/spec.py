"""TARGET, as typed, taken apart: `model.py:build(depth=50)` → file, name, arguments. Nothing is loaded or evaluated.

Arguments are Python literals, read with `ast.literal_eval`.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.sources import display_path

FORMS = "model.py, model.py:NAME, model.py:build(depth=50) or package.module:NAME"
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class TargetSpec:
    """Where to look (a file or a module), for which dotted name, and the arguments to call it with, if it is called."""

    text: str
    file: Path | None
    module: str | None
    name: str | None = None
    called: bool = False
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expression: str | None = None
    """What stands after the colon, as typed."""

    @property
    def place(self) -> str:
        """The file or the module, for messages and for what to type next."""
        return display_path(str(self.file)) if self.file else str(self.module)


def parse(text: str) -> TargetSpec:
    """The parts of a TARGET.

    Raises:
        GradtoolError: no such file, not a Python file, or what stands after the colon is no name and no call with
            literals.
    """
    place, expression = _split(text)
    file, module = _locate(place, text)
    if expression is None:
        return TargetSpec(text, file, module)
    name, called, args, kwargs = _expression(expression, text)
    return TargetSpec(text, file, module, name, called, args, kwargs, expression.strip())


def _split(text: str) -> tuple[str, str | None]:
    """Before and after the colon: not a Windows drive's, and not one that belongs to the name of an existing file."""
    colons = [at for at, char in enumerate(text) if char == ":" and not (at == 1 and text[2:3] in ("\\", "/"))]
    if not colons or Path(text).exists():
        return text, None
    at = next((at for at in colons if text[:at].endswith(".py") or Path(text[:at]).is_file()), colons[0])
    return text[:at], text[at + 1 :]


def _locate(place: str, text: str) -> tuple[Path | None, str | None]:
    if not place:
        raise GradtoolError(f"'{text}' names no file", hint=f"a TARGET is {FORMS}")
    path = Path(os.path.abspath(place))
    shown = display_path(str(path))
    if path.is_dir():
        inside = sorted(found.name for found in path.glob("*.py") if found.name != "__init__.py")
        example = Path(place) / (inside[0] if inside else "model.py")
        raise GradtoolError(f"{place} is a folder", hint=f"name the file in it that builds the model: {example}")
    if path.is_file() and path.suffix == ".py":
        return path, None
    if path.is_file():
        raise GradtoolError("not a Python file", file=shown, hint=_other_file(path))
    if place.endswith(".py") or os.sep in place or "/" in place:
        near = difflib.get_close_matches(path.name, [found.name for found in path.parent.glob("*.py")], n=1)
        where = f"did you mean {path.with_name(near[0]).relative_to(path.parent)}?" if near else f"a TARGET is {FORMS}"
        raise GradtoolError("no such file", file=shown, hint=where)
    if not _MODULE.fullmatch(place):
        raise GradtoolError(f"'{place}' is neither a file nor the name of a module", hint=f"a TARGET is {FORMS}")
    return None, place


def _other_file(path: Path) -> str:
    if path.suffix in (".pt", ".pth", ".ckpt", ".safetensors", ".bin"):
        return f"name the Python file that builds the model, and give the weights with --weights {path.name}"
    if path.suffix == ".ipynb":
        return "save the cells that define the model as a .py file"
    return f"a TARGET is {FORMS}"


def _expression(expression: str, text: str) -> tuple[str, bool, tuple[Any, ...], dict[str, Any]]:
    """The dotted name of `expression`, whether it is called, and with which literals."""
    example = "a name or a call with literals follows the colon, as in model.py:Net or model.py:build(depth=50)"
    try:
        node: ast.expr = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise GradtoolError(f"'{expression}' in '{text}' is not Python", hint=example) from error
    called = isinstance(node, ast.Call)
    name = _dotted(node.func if isinstance(node, ast.Call) else node)
    if name is None:
        raise GradtoolError(f"'{expression}' in '{text}' is more than a name or one call", hint=example)
    if not isinstance(node, ast.Call):
        return name, called, (), {}
    args = tuple(_literal(argument, text) for argument in node.args)
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in kwargs:
            raise GradtoolError(
                f"'{ast.unparse(keyword)}' in '{text}' cannot be read", hint="give each argument once, by name"
            )
        kwargs[keyword.arg] = _literal(keyword.value, text)
    return name, called, args, kwargs


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return base and f"{base}.{node.attr}"
    return None


def _literal(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise GradtoolError(
            f"the argument {ast.unparse(node)} in '{text}' is not a literal",
            hint="write numbers, strings, True, False, None, or lists, tuples and dicts of them; "
            "anything else belongs into a function of the file",
        ) from error
