"""Standard output belongs to the result alone: whatever the user's model prints, from Python or from C, goes to stderr.

In: the process's file descriptors. Out: a `ResultChannel`, through which the command writes its one document.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

from gradcheck_tool.errors import GradtoolError

STDOUT = 1
STDERR = 2


@dataclass(frozen=True)
class ResultChannel:
    """Where the result goes. `write` takes the whole text; a reader that has gone away is no error."""

    write: Callable[[str], None]
    is_terminal: bool


@contextlib.contextmanager
def claim_stdout() -> Iterator[ResultChannel]:
    """Take standard output for the result.

    Where `sys.stdout` is file descriptor 1, that descriptor becomes stderr's until the process ends (so that what
    runs at exit cannot spoil the document either), and the result goes to a duplicate made before. Where `sys.stdout`
    was replaced (a test runner, a notebook), the result goes to the replacement, and prints go to `sys.stderr` for as
    long as the context lasts.
    """
    stdout = sys.stdout
    if stdout is None:  # started with a closed stdout: there is nobody to write to
        yield ResultChannel(lambda text: None, is_terminal=False)
    elif _is_descriptor(stdout, STDOUT):
        stdout.flush()
        saved = os.dup(STDOUT)
        _point_at_stderr(STDOUT)
        encoding = stdout.encoding
        yield ResultChannel(lambda text: _write_all(saved, text, encoding), is_terminal=os.isatty(saved))
    else:
        with contextlib.redirect_stdout(sys.stderr):
            yield ResultChannel(lambda text: _write_text(stdout, text), is_terminal=stdout.isatty())


def _is_descriptor(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):  # no file, or closed
        return False


def _point_at_stderr(descriptor: int) -> None:
    try:
        os.dup2(STDERR, descriptor)
    except OSError:  # stderr is closed: then prints go nowhere
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _write_all(descriptor: int, text: str, encoding: str) -> None:
    rest = memoryview(text.encode(encoding, "backslashreplace"))
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        _unless_reader_left(error)


def _write_text(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _unless_reader_left(error)


def _unless_reader_left(error: OSError) -> None:
    """`gradtool … | head` is no error; a full disk is."""
    if error.errno not in (errno.EPIPE, errno.ESHUTDOWN):
        raise GradtoolError(f"cannot write to standard output: {error.strerror}") from error
