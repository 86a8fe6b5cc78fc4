"""A progress bar on stderr, for a person at a terminal who has waited for over a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

PATIENCE = 1.0
"""Seconds of work before a bar appears: a fast run shows none."""


class Progress:
    """Called with (label, done, total) while the work goes on; a context manager that closes the last bar."""

    def __init__(self, wanted: bool = True) -> None:
        self._started = time.monotonic()
        self._shown = wanted and sys.stderr is not None and sys.stderr.isatty()
        self._label = ""
        self._bar: ProgressBar[Any] | None = None

    def __call__(self, label: str, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._bar is not None and label != self._label:
            self._close()
        if self._bar is None and done < total and time.monotonic() - self._started > PATIENCE:
            self._label = label
            self._bar = click.progressbar(length=total, label=label, file=sys.stderr)
            self._bar.__enter__()
        if self._bar is not None:
            self._bar.update(done - self._bar.pos)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
