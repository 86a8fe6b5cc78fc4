"""New weights, written into random sources: those that are shown draw what was planned, and hardly any is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Files, project
from random_sources import source

from gradcheck_tool import auditing
from gradcheck_tool.measuring import measurable
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.patch.initializing import draws_of, propose_draws
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.redrawn import Redrawn, check_redrawn, expect_redrawn
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.target import Subject

SICK = "with the weights that the patched source draws"


def proposals(subject: Subject) -> Iterator[tuple[Proposal, Redrawn]]:
    """Those of a plan that draws something."""
    subject = measurable(subject, 0, always=True)
    structure = auditing.read(subject.model, subject.inputs).structure
    plan = Reinitialize().plan(Case(subject.model, subject.inputs, structure, 1, subject.births))
    if plan.steps:
        draws = draws_of(subject.model, structure, plan.steps)
        expected = expect_redrawn(subject.model, draws, (), 0)
        for proposal in propose_draws(subject.model, structure, draws, subject.origins):
            yield proposal, expected


def patched(files: Files, folder: Path, proposal: Proposal) -> Files:
    changed = {path.resolve(): content for path, content in proposal.after.items()}
    return {name: changed.get((folder / name).resolve(), content) for name, content in files.items()}


@pytest.mark.parametrize("seed", range(24))
def test_a_random_source_draws_what_was_planned(seed: int, tmp_path: Path) -> None:
    files = {name: text.encode() for name, text in source(seed).files.items()}
    reasons = []
    with project(files, tmp_path / "project") as subject:
        for number, (proposal, expected) in enumerate(proposals(subject)):
            after = patched(files, tmp_path / "project", proposal)

            def build(after: Files = after, folder: Path = tmp_path / f"patched{number}") -> Subject:
                with project(after, folder) as found:
                    return found

            try:
                check_redrawn(build, expected)
                return
            except Refused as refusal:
                reasons.append(str(refusal))
    assert all(reason.startswith(SICK) for reason in reasons), f"{reasons}\n{source(seed)}"
