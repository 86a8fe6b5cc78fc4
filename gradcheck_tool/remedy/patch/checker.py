"""The process that `verify` starts: it loads the TARGET with the patched sources laid over the user's files, checks the
model, and leaves the answer in `answer.json`.

`checker.main` takes the folder from the command line; `sys.path` is that of the process that started it.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.remedy.patch import handover
from gradcheck_tool.remedy.patch.expectation import check
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.target import load_model, load_subject, materialize
from gradcheck_tool.target.overlay import overlaid


def main() -> None:
    """Writes the answer and ends the process, whatever threads the user's code has left behind."""
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    sys.argv = request["argv"]
    answer = folder / "answer.json"
    answer.with_suffix(".part").write_text(json.dumps(_answer(folder, request)), encoding="utf-8")
    answer.with_suffix(".part").replace(answer)
    os._exit(0)


def _answer(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(request["threads"])
    sources = {Path(path): base64.b64decode(source) for path, source in request["sources"].items()}
    loading: dict[str, Any] = request["loading"]

    def elsewhere() -> Inputs:
        return load_subject(**loading).inputs

    def build() -> nn.Module:
        names = ("spec", "device", "seed", "timeout")
        model = load_model(**{name: loading[name] for name in names})
        if expected.runs:
            materialize(model, expected.runs[0][0])
        return model

    with overlaid(sources):
        try:
            expected = handover.load(folder, elsewhere)
            checked = check(build, expected)
            return {"renamed": dict(checked.renamed), "norms": dict(checked.norms)}
        except (Refused, GradtoolError) as error:
            return {"refused": str(error)}
