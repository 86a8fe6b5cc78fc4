"""Where in the user's source something happened: a frame that constructs a module or calls an op → `Location`.

From Python 3.11 a frame knows the line and the column of the very expression that it is at, so
`nn.Linear(width, width)` inside a comprehension is found for each of the modules made there.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from gradcheck_tool.results import Location

if TYPE_CHECKING:
    from torch import nn

Where = tuple[CodeType, int]
"""A point in running code: the code object and the offset of the instruction. Cheap to keep, located when asked for."""

_OWN = str(Path(__file__).parent) + os.sep
_SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")
_LIBRARIES = tuple(sorted({sysconfig.get_paths()[name] + os.sep for name in _SCHEMES}))


@cache
def _torch_folder() -> str:
    import torch

    return str(Path(torch.__file__).parent) + os.sep


@cache
def rank(filename: str) -> int:
    """0: the user's own file. 1: an installed library's. 2: torch's, gradtool's or generated code's, never shown."""
    if filename.startswith((_torch_folder(), _OWN, "<")):
        return 2
    return 1 if filename.startswith(_LIBRARIES) else 0


@dataclass(frozen=True)
class Boundary:
    """Where a walk outwards may stop: at frames of `code`, for what is outside of which `outside(frame)` has an answer
    already. Operations in the forward of one module have all that is outside of it in common."""

    code: CodeType
    outside: Callable[[FrameType], Where | None]


def caller(frame: FrameType | None, stop: CodeType | None = None, boundary: Boundary | None = None) -> Where | None:
    """The innermost frame of the user's own files from `frame` outwards; without one, the innermost of a library.

    Frames from `stop` on belong to gradtool's own caller, not to the model, and are not looked at.
    """
    library: Where | None = None
    while frame is not None:
        code = frame.f_code
        if code is stop:
            break
        level = rank(code.co_filename)
        if level == 0:
            return code, frame.f_lasti
        if level == 1 and library is None:
            library = code, frame.f_lasti
        if boundary is not None and code is boundary.code:
            outer = boundary.outside(frame)
            users = outer is not None and rank(outer[0].co_filename) == 0
            return outer if users or library is None else library
        frame = frame.f_back
    return library


def users_stack(frame: FrameType | None) -> Stack:
    """The frames of the user's own files from `frame` outwards."""
    found = []
    while frame is not None:
        if rank(frame.f_code.co_filename) == 0:
            found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


@cache
def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    return list(code.co_positions())


def display_path(filename: str) -> str:
    """`filename` as a person would type it from here: relative below the current folder, absolute elsewhere."""
    path = Path(filename)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return filename


def _characters(filename: str, line: int, byte_column: int) -> int:
    """The 1-based character column of a 0-based column that counts UTF-8 bytes."""
    text = linecache.getline(filename, line)
    return len(text.encode()[:byte_column].decode(errors="ignore")) + 1


def locate(where: Where | None) -> Location | None:
    """The place in the source of a point in code; None where the source is not at hand."""
    if where is None:
        return None
    code, offset = where
    line, end_line, column, end_column = _positions(code)[offset // 2]
    if line is None:
        return None
    filename = code.co_filename
    if end_line is None or column is None or end_column is None:
        return Location(display_path(filename), line, 1, line, 1)
    return Location(
        display_path(filename),
        line,
        _characters(filename, line, column),
        end_line,
        _characters(filename, end_line, end_column),
    )


Stack = tuple[Where, ...]
"""The points in the user's own files that were running, from the innermost outwards."""


class Births:
    """Where modules were constructed, collected while `births()` is active."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Where | None, Stack]] = {}

    def record(self, module: nn.Module, frame: FrameType | None) -> None:
        """Notes the construction of `module`, whose `__init__` frames, of subclasses too, begin at `frame`."""
        while frame is not None and frame.f_code.co_name == "__init__" and _first_argument(frame) is module:
            frame = frame.f_back
        self._seen[id(module)] = (module, caller(frame), users_stack(frame))  # kept, so that its id stays its own

    def of(self, model: nn.Module) -> Mapping[str, Location]:
        """The places of construction of `model`'s submodules by qualified name, of those that were seen."""
        places = {}
        for name, module in model.named_modules():
            _, where, _ = self._seen.get(id(module), (None, None, ()))
            location = locate(where)
            if location is not None:
                places[name] = location
        return places

    def stacks(self, model: nn.Module) -> Mapping[str, Stack]:
        """What of the user's own files was running when each of `model`'s submodules was constructed, by every name
        that it has; only of those that were seen."""
        named = model.named_modules(remove_duplicate=False)
        return {name: self._seen[id(module)][2] for name, module in named if id(module) in self._seen}


def _first_argument(frame: FrameType) -> Any:
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


@contextmanager
def births() -> Iterator[Births]:
    """Notes where each `nn.Module` is constructed while the context is active, in any thread."""
    from torch import nn

    born = Births()
    original = nn.Module.__init__

    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        born.record(self, sys._getframe(1))
        original(self, *args, **kwargs)

    nn.Module.__init__ = __init__  # type: ignore[method-assign]
    try:
        yield born
    finally:
        nn.Module.__init__ = original  # type: ignore[method-assign]
