"""What can go wrong, said so that the person knows where and what to type next.

A `GradtoolError` becomes one line on stderr and exit code 2; a `GradientHealthError` is what `check` raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck_tool.results import AuditReport


class GradtoolError(Exception):
    """gradtool could not run.

    Args:
        message: what was tried and why it failed, without a trailing full stop.
        file: the user's file, as it should be displayed, where one is to blame.
        line: the 1-based line in `file`.
        hint: what to type or change next.
        user_traceback: the user's own traceback, cut to the user's frames; shown with `-v` only.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        hint: str | None = None,
        user_traceback: str | None = None,
    ) -> None:
        self.message = " ".join(message.split())
        self.file = file
        self.line = line
        self.hint = hint
        self.user_traceback = user_traceback
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """`model.py:12: what failed; what to do`, always a single line."""
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return place + self.message + (f"; {self.hint}" if self.hint else "")


class GradientHealthError(Exception):
    """`check` found something at or above its `fail_on` severity. `report` holds everything that was found."""

    def __init__(self, report: AuditReport) -> None:
        self.report = report
        super().__init__(str(report))
