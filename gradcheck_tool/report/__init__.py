"""One renderer a format, found by its name: `report/NAME` has `render(result, *, color, verbosity) -> str`.

A renderer is a pure function of a result; a new format is a new file here and nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, TypeAlias

from gradcheck_tool.errors import GradtoolError

if TYPE_CHECKING:
    from gradcheck_tool.results import AuditReport, FixResult, GradientProfile, ProbeReport

    Result: TypeAlias = AuditReport | ProbeReport | GradientProfile | FixResult

QUIET, NORMAL, VERBOSE = -1, 0, 1


def formats() -> tuple[str, ...]:
    """The names of the formats, `text` first. Looks at file names only: no renderer is imported."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return ("text", *sorted(names - {"text"}))


def render(result: Result, format: str = "text", *, color: bool = False, verbosity: int = NORMAL) -> str:
    """`result` as text that ends with a newline (or is empty, where `QUIET` leaves nothing to say).

    Args:
        result: what a verb returned.
        format: one of `formats()`.
        color: whether escape codes may stand in it; machine formats have none.
        verbosity: `QUIET` (findings and verdicts alone), `NORMAL` or `VERBOSE`; machine formats are always whole.

    Raises:
        GradtoolError: there is no such format.
    """
    if format not in formats():
        raise GradtoolError(f"there is no format {format!r}", hint=f"take one of {', '.join(formats())}")
    renderer = importlib.import_module(f"{__name__}.{format}")
    text: str = renderer.render(result, color=color, verbosity=verbosity)
    return text
