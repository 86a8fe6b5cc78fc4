"""What `verify` runs in a fresh process: it loads the TARGET with the patched sources laid over the user's files,
checks the model, and leaves the answer in `answer.json`.

The program "redrawn" checks new weights, "norms" everything else.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.remedy.patch import handover, redrawn
from gradcheck_tool.remedy.patch.expectation import check
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.redrawn import check_redrawn
from gradcheck_tool.target import load_model, load_subject, materialize
from gradcheck_tool.target.overlay import overlaid


def run(program: str, folder: str | Path) -> NoReturn:
    """Writes the answer and ends the process, whatever threads the user's code has left behind.

    Args:
        program: "norms" or "redrawn".
        folder: what `verify` has written to; the answer goes there too.
    """
    folder = Path(folder)
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    sys.argv = request["argv"]
    torch.set_num_threads(request["threads"])
    sources = {Path(path): base64.b64decode(source) for path, source in request["sources"].items()}
    with overlaid(sources):
        try:
            found = _PROGRAMS[program](folder, request["loading"])
        except (Refused, GradtoolError) as error:
            found = {"refused": str(error)}
    answer = folder / "answer.json"
    answer.with_suffix(".part").write_text(json.dumps(found), encoding="utf-8")
    answer.with_suffix(".part").replace(answer)
    os._exit(0)


def _redrawn(folder: Path, loading: dict[str, Any]) -> dict[str, Any]:
    check_redrawn(lambda: load_subject(**loading), redrawn.load(folder / "redrawn.json"))
    return {}


def _norms(folder: Path, loading: dict[str, Any]) -> dict[str, Any]:
    def elsewhere() -> Inputs:
        return load_subject(**loading).inputs

    def build() -> nn.Module:
        names = ("spec", "device", "seed", "timeout")
        model = load_model(**{name: loading[name] for name in names})
        if expected.runs:
            materialize(model, expected.runs[0][0])
        return model

    expected = handover.load(folder, elsewhere)
    checked = check(build, expected)
    return {"renamed": dict(checked.renamed), "norms": dict(checked.norms), "factors": list(checked.factors)}


_PROGRAMS: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {"norms": _norms, "redrawn": _redrawn}
