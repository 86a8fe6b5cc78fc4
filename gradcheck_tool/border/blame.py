"""An exception out of the user's code → `GradtoolError`: their file and line, what was tried, what to do next."""

from __future__ import annotations

import traceback
from types import TracebackType

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.sources import display_path, rank


def user_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames of a traceback that lie in the user's own files; without any, those in installed libraries."""
    frames = traceback.extract_tb(trace)
    for wanted in (0, 1):
        found = [frame for frame in frames if rank(frame.filename) == wanted]
        if found:
            return found
    return []


def blamed(error: BaseException, tried: str, hint: str | None = None) -> GradtoolError:
    """The error to show for an exception that the user's code raised while gradtool `tried` something with it."""
    frames = user_frames(error.__traceback__)
    last = frames[-1] if frames else None
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    trace = "".join(["Traceback (your frames only):\n", *traceback.format_list(frames), said]) if frames else None
    return GradtoolError(
        f"{tried} raised {_shortened(said)}",
        file=display_path(last.filename) if last else None,
        line=last.lineno if last else None,
        hint=hint,
        user_traceback=trace,
    )


def _shortened(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
