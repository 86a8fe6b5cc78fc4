"""One thing that a rule found: how bad it is, where in the user's source, and the remedy that it suggests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SEVERITIES = ("note", "warning", "error")

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True)
class Location:
    """A place in the user's source: 1-based line and column in characters, the end exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Fix:
    """The remedy that a finding suggests, and whether it changes what the model computes ("unsafe") or not ("safe")."""

    remedy: str
    applicability: Literal["safe", "unsafe"]


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found."""

    rule: str
    name: str
    severity: Severity
    message: str
    layers: tuple[str, ...]
    location: Location | None
    fix: Fix | None
