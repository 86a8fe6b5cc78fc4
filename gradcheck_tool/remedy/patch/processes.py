"""Fresh processes for `verify`: torch is imported, nothing of the user's is.

To import torch takes a second or more. So a process that has done it, the `nursery`, is prepared while the model is
loaded and measured, and the checks are forks of it. Where a process cannot be forked and watched (that takes Linux),
each check starts one of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from gradcheck_tool.remedy.patch import {0}; {0}.{1}"
_NURSERY: ContextVar[_Nursery | None] = ContextVar("nursery", default=None)


class OutOfTime(Exception):
    """A process was not done after its limit."""


class _NurseryEnded(Exception):
    """It gave no answer."""


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Within this, a process is there for every check, however deeply it is entered; afterwards it is gone.

    It is started at once and not waited for; with one core, where it would only be in the way, by the first check.
    """
    if _NURSERY.get() is not None or not _can_fork():
        yield
        return
    nursery = _Nursery()
    token = _NURSERY.set(nursery)
    try:
        if len(os.sched_getaffinity(0)) > 1:
            nursery.start()
        yield
    finally:
        _NURSERY.reset(token)
        nursery.end()


def run(program: str, folder: Path, limit: float | None) -> int:
    """The exit code of a fresh process that runs a program of `checker`, with its output in `folder`/output.txt.

    Whatever it has started is ended with it.

    Args:
        program: the name of the program.
        folder: what it works on.
        limit: seconds until it is ended.

    Raises:
        OutOfTime: it was not done after that.
    """
    nursery = _NURSERY.get()
    if nursery is not None:
        with contextlib.suppress(_NurseryEnded):
            return nursery.run(program, folder, limit)
    return _run(program, folder, limit)


class _Nursery:
    """The process that is prepared, if it is, and the line to it."""

    def __init__(self) -> None:
        self._at: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def start(self) -> socket.socket:
        """The line to the process, which is started where it is not there."""
        if self._at is None:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    _command("nursery", "serve()"),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._at = process, ours
        return self._at[1]

    def run(self, program: str, folder: Path, limit: float | None) -> int:
        request = {
            "program": program,
            "folder": str(folder),
            "limit": limit,
            "place": os.getcwd(),
            "environment": dict(os.environ),
            "path": sys.path,
        }
        try:
            ours = self.start()
            ours.settimeout(None if limit is None else 2 * limit)  # it keeps the limit itself, once it is there
            with ours.makefile("rwb") as line:
                line.write(json.dumps(request).encode() + b"\n")
                line.flush()
                answer = line.readline()
        except TimeoutError as error:
            self.end()
            raise OutOfTime from error
        except OSError:
            answer = b""
        except BaseException:  # Ctrl-C: nobody waits for this check any more
            self._hang_up()
            raise
        if not answer:
            self._hang_up()
            raise _NurseryEnded
        code = json.loads(answer)
        if code is None:
            raise OutOfTime
        return int(code)

    def _hang_up(self) -> None:
        """Has it end what it is at, and itself."""
        if self._at is not None:
            process, line = self._at
            line.close()
            process.wait()
            self._at = None

    def end(self) -> None:
        """Ends the process, which has nothing to do."""
        if self._at is not None:
            self._at[0].kill()
            self._hang_up()


def _can_fork() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # an older kernel, or another one
        return False
    return True


def _run(program: str, folder: Path, limit: float | None) -> int:
    """`run`, by an interpreter that starts now."""
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            _command("checker", f"run({program!r}, {str(folder)!r})"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired as error:
            raise OutOfTime from error
        finally:
            _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    """Ends the process, and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _command(module: str, call: str) -> list[str]:
    return [sys.executable, "-P", "-B", "-c", _PROGRAM.format(module, call), *sys.path]
