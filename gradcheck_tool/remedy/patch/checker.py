"""The process that `verify` starts: it loads the TARGET with the patched sources laid over the user's files, checks the
model, and leaves the answer in `answer.json`.

`checker.main` checks new norms, `checker.main_of_redrawn` new weights. Both take the folder from the command line;
`sys.path` is that of the process that started them.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def main() -> None:
    """Writes the answer and ends the process, whatever threads the user's code has left behind."""
    _reply(_norms)


def main_of_redrawn() -> None:
    """The same, of weights that the source draws anew."""
    _reply(_redrawn)


def _reply(look: Callable[[Path, dict[str, Any]], dict[str, Any]]) -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    sys.argv = request["argv"]
    torch.set_num_threads(request["threads"])
    sources = {Path(path): base64.b64decode(source) for path, source in request["sources"].items()}
    with overlaid(sources):
        try:
            found = look(folder, request["loading"])
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
