"""A small project in a folder of its own: written, loaded, planned, and forgotten."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gradcheck_tool import auditing
from gradcheck_tool.auditing import Reading
from gradcheck_tool.inputs.samples import enough, varied
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.insert_norm import InsertNorm, NormKind, insertions_of
from gradcheck_tool.results import Insertion
from gradcheck_tool.target import Subject, load_subject

MIN_DEPTH = 4

Files = Mapping[str, bytes]
"""Contents by the path inside the project; the target is `model.py`."""


@contextmanager
def project(files: Files, folder: Path) -> Iterator[Subject]:
    """The target `model.py` of a project written to `folder`, loaded; what it imported is forgotten afterwards, so that
    the next project may call its modules the same."""
    write(files, folder)
    path = list(sys.path)
    try:
        yield load_subject(str(folder / "model.py"))
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(f"{folder.parent}/"):
                del sys.modules[name]


def write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def planned(subject: Subject, kind: NormKind = "batch") -> tuple[Subject, Reading, tuple[Insertion, ...]]:
    """The plan, as `fix` makes it, and what it was read from."""
    inputs = enough(varied(subject.model, subject.inputs, seed=0), seed=0)
    reading = auditing.read(subject.model, inputs)
    plan = InsertNorm(kind).plan(Case(subject.model, inputs, reading.structure, MIN_DEPTH, subject.births))
    return replace(subject, inputs=inputs), reading, insertions_of(plan)
