"""What holds for the shortcuts in every source: it is loaded, run and compared with the rewritten graph. `outcome` says
how it went, for the test and for the benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from random_patches import Outcome, visited
from random_sources import Source
from torch import nn

from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import capture
from gradcheck_tool.measuring import measurable
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.patch.expectation import check, expect
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.shortcuts import propose_shortcuts
from gradcheck_tool.remedy.shortcuts import AddShortcuts


def outcome(source: Source, folder: Path) -> Outcome:
    """Writes the shortcuts of a plan into a source in `folder`, which does not exist yet."""
    with visited(folder / "before", source.files) as loaded:
        subject = measurable(loaded, 0, always=True)
        structure = read(subject.model, subject.inputs).structure
        remedy, case = AddShortcuts(), Case(subject.model, subject.inputs, structure, 1, subject.births)
        plan = remedy.plan(case)
        if not plan.steps:
            return Outcome("nothing")
        try:
            proposal, made = propose_shortcuts(subject.model, structure, plan.steps, subject.origins)
        except Refused as refusal:
            return Outcome("refused", str(refusal))
        expected = expect(
            subject.model, subject.inputs, remedy.apply(capture(subject.model, subject.inputs)[0], plan, case)
        )
    expected = replace(expected, kinds={**expected.kinds, **made})
    changed = {path.name: content for path, content in proposal.after.items()}
    after = {name: changed.get(name, text.encode()) for name, text in source.files.items()}

    def build() -> nn.Module:
        with visited(folder / "after", after) as patched:
            return patched.model

    try:
        check(build, expected)
    except Refused as wrong:
        return Outcome("wrong", str(wrong), after["model.py"].decode())
    return Outcome("patched", after=after["model.py"].decode())
