"""A proposal is loaded and checked in a fresh process before anybody sees it. Nothing of the user's is written.

The process runs `checker`; it gets what it needs as files in a folder that is removed in any case.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gradcheck_tool.remedy.patch import handover, processes
from gradcheck_tool.remedy.patch.expectation import Checked, Expected
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.redrawn import Redrawn
from gradcheck_tool.target.request import LoadRequest

_START = 60.0
"""Seconds for what is not the user's: a process that imports torch, and the comparison."""
_LONGEST_REASON = 300


def verify(proposal: Proposal, expected: Expected, request: LoadRequest) -> Checked:
    """Checks in a fresh process that the patched source builds what is `expected`.

    Args:
        proposal: the patched source.
        expected: what `expectation.expect` gave for the model as it is, and its fixed graph.
        request: how the model was loaded. Its time limit is that of the check, over and above the time to start.

    Raises:
        Refused: it does not build, or builds something else, or takes too long.
    """

    def save(folder: Path) -> None:
        try:
            handover.save(expected, folder)
        except (OSError, RuntimeError) as error:  # a full disk: torch says so in its own way
            raise Refused(f"the weights cannot be handed to the process that would check it: {error}") from error

    answer = _in_fresh_process(proposal, request, save, "norms")
    return Checked(answer["renamed"], answer["norms"], answer["factors"])


def verify_redrawn(proposal: Proposal, expected: Redrawn, request: LoadRequest) -> None:
    """Checks in a fresh process that the patched source builds a model with new weights as `expected`.

    Raises:
        Refused: it does not build, or builds something else, or a model that is not healthy, or takes too long.
    """

    def save(folder: Path) -> None:
        try:
            expected.save(folder / "redrawn.json")
        except OSError as error:
            raise Refused(f"the plan cannot be handed to the process that would check it: {error}") from error

    _in_fresh_process(proposal, request, save, "redrawn")


def _in_fresh_process(
    proposal: Proposal, request: LoadRequest, save: Callable[[Path], None], program: str
) -> dict[str, Any]:
    """The answer of the `program` of `checker`, which finds what `save` wrote.

    Raises:
        Refused: it says so, or gives no answer.
    """
    with tempfile.TemporaryDirectory(prefix="gradtool-") as name:
        folder = Path(name)
        save(folder)
        sources = {str(path): base64.b64encode(source).decode() for path, source in proposal.after.items()}
        loading = asdict(request) | {"weights": None}
        surroundings = {"argv": sys.argv, "threads": torch.get_num_threads()}
        (folder / "request.json").write_text(
            json.dumps({"sources": sources, "loading": loading, **surroundings}), encoding="utf-8"
        )
        limit = 2 * request.timeout + _START if request.timeout else None
        problem = _run(folder, limit, program)
        answer = _answer(folder)
    if answer is None:
        raise Refused(f"the patched source could not be checked: {problem or 'the check gave no answer'}")
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer


def _run(folder: Path, limit: float | None, program: str) -> str | None:
    """Runs a program of the checker. Returns what went wrong with the process itself, if anything did."""
    try:
        code = processes.run(program, folder, limit)
    except processes.OutOfTime:
        return f"it was not done after {limit:g} s; give it longer with --timeout SECONDS"
    if code == 0:
        return None
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    last = _last_line(folder / "output.txt")
    return f"the process {how}" + (f" ({last})" if last else "")


def _last_line(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 4096))
        lines = stream.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_LONGEST_REASON]


def _answer(folder: Path) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer
