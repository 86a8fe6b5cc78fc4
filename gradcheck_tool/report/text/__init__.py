"""A result as a person reads it, on 80 to 100 columns: first what was found, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_tool.report.text.audit import audit_lines
from gradcheck_tool.report.text.fix import fix_lines
from gradcheck_tool.report.text.probe import probe_lines, profile_lines
from gradcheck_tool.report.text.words import Style
from gradcheck_tool.results import AuditReport, GradientProfile, ProbeReport

if TYPE_CHECKING:
    from gradcheck_tool.report import Result


def render(result: Result, *, color: bool = False, verbosity: int = 0) -> str:
    """The text report: no trailing spaces, a newline at the end, empty where there is nothing to say."""
    style = Style(color, verbosity)
    if isinstance(result, AuditReport):
        lines = audit_lines(result, style)
    elif isinstance(result, ProbeReport):
        lines = probe_lines(result, style)
    elif isinstance(result, GradientProfile):
        lines = profile_lines(result, style)
    else:
        lines = fix_lines(result, style)
    return "".join(f"{line.rstrip()}\n" for line in lines)
