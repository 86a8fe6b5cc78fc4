"""A time limit on the user's code: what runs inside `time_limit` is interrupted by `OutOfTime` where it stands.

In the main thread of a Unix process by the interval timer; elsewhere by an exception sent to the thread.
"""

from __future__ import annotations

import ctypes
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = 1.0
"""Seconds until the interruption is sent again, for code that catches everything and goes on."""


class OutOfTime(BaseException):
    """The time is up. No `Exception`, so that the user's `except Exception` does not take it for its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` in the code inside once `seconds` have passed. 0, less, or not finite: no limit.

    A single long call into native code is interrupted when it returns.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        yield
    elif hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        with _by_timer(seconds):
            yield
    else:
        with _by_thread(seconds):
            yield


@contextmanager
def _by_timer(seconds: float) -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime

    previous = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    done = threading.Event()
    lock = threading.Lock()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            with lock:
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(OutOfTime))
            wait = _AGAIN

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with lock:
            done.set()
        watcher.join()
