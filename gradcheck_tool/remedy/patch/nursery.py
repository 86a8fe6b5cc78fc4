"""The process that `processes` prepares: torch and the checker are imported, nothing of the user's is, and each request
is carried out by a fork of it.

A request is a line of JSON, and so is the answer: the exit code, or null where the fork was not done in time. Where the
requests end while a fork is at work, nobody waits for it any more.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from gradcheck_tool.remedy.patch import checker


def serve() -> NoReturn:
    """Carries out the requests that come on the standard input, a socket, and answers there, until it is closed."""
    with socket.socket(fileno=os.dup(0)) as line, line.makefile("rwb") as requests:
        silent = os.open(os.devnull, os.O_RDONLY)
        os.dup2(silent, 0)
        os.close(silent)
        for text in requests:
            request = json.loads(text)
            pid = os.fork()
            if pid == 0:
                os.close(line.detach())
                _become(request)
            code = _code(pid, line.fileno(), request["limit"])
            requests.write(json.dumps(code).encode() + b"\n")
            requests.flush()
    os._exit(0)


def _become(request: dict[str, Any]) -> NoReturn:
    """Turns this fork into a process like one that was started where the request comes from."""
    try:
        os.setsid()
        folder = Path(request["folder"])
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(request["place"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:] = request["path"]
        importlib.invalidate_caches()
        checker.run(request["program"], folder)
    except BaseException:  # noqa: BLE001  what an interpreter does with it that has nothing more to run
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _code(pid: int, requests: int, limit: float | None) -> int | None:
    """The exit code of a fork; it is ended where it takes too long or nobody waits for it, and whatever it has started
    in any case."""
    done = os.pidfd_open(pid)
    ready, _, _ = select.select([done, requests], [], [], limit)
    os.close(done)
    try:
        os.killpg(pid, signal.SIGKILL)  # its number is not given to another process before it is waited for
    except (ProcessLookupError, PermissionError):  # it leads no group yet
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if ready else None
