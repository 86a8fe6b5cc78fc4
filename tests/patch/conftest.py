"""The change of a source that carries a remedy out, for the tests of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from projects import project

from gradcheck_tool import auditing
from gradcheck_tool.fixing.stages import patch_remedy
from gradcheck_tool.measuring import measurable
from gradcheck_tool.remedy.base import Case, Remedy
from gradcheck_tool.remedy.patch.proposal import diff
from gradcheck_tool.target.request import LoadRequest


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, Remedy], list[str]]:
    """The changed lines of a source, once they were checked in a fresh process."""

    def lines(source: str, remedy: Remedy) -> list[str]:
        with project({"model.py": source.encode()}, tmp_path / "project") as loaded:
            subject = measurable(loaded, 0, always=True)
            structure = auditing.read(subject.model, subject.inputs).structure
            plan = remedy.plan(Case(subject.model, subject.inputs, structure, 1, subject.births))
            assert plan.steps
            request = LoadRequest(loaded.target.spec)
            found = patch_remedy(subject, structure, remedy, plan, (), request, 0).proposal
        assert list(found.before.values()) == [source.encode()]
        return [line for line in diff(found).split("\n")[2:] if line[:1] in ("+", "-")]

    return lines
