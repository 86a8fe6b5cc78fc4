"""A plan → the files that change: the user's own source, or where that is refused, a new module that builds the model
and applies the plan to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torch import nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.inputs import describe
from gradcheck_tool.remedy.base import Plan
from gradcheck_tool.remedy.combination import steps_of
from gradcheck_tool.remedy.patch.expectation import Checked, Expected, expect
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.proposing import propose
from gradcheck_tool.remedy.patch.verify import verify
from gradcheck_tool.remedy.reinitialize import Reinitialization
from gradcheck_tool.remedy.shortcuts import Shortcut
from gradcheck_tool.remedy.wrapper.text import default_path, place_of, source_of, source_of_remedied
from gradcheck_tool.results import Insertion, Target
from gradcheck_tool.sources import rank
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest


@dataclass(frozen=True)
class Change:
    """Files that change; the keys of the state dict that they rename; the names that each new norm of the graph has in
    them; the keys of the factors of new shortcuts; and where they are not the user's own but a new module, the reason.
    """

    proposal: Proposal
    renamed: Mapping[str, str] = field(default_factory=dict)
    norms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    factors: Sequence[str] = ()
    refused: str | None = None


NO_CHANGE = Change(Proposal({}, {}))


def change_source(
    subject: Subject,
    structure: Structure,
    plan: Sequence[Insertion],
    fixed: nn.Module,
    without_bias: Sequence[str],
    request: LoadRequest,
    seed: int,
    output: Path | None,
) -> Change:
    """The best change of the user's own source that passes the check, else a module to be written to `output`.

    Args:
        subject: the model as it is, and its inputs.
        structure: of the recording that the plan was made from.
        plan: the norms.
        fixed: the graph with the norms: what the changed source must do.
        without_bias: layers that lose their bias.
        request: how the model was loaded.
        seed: of the check.
        output: where the user wants it written; None where nothing is written, or in place.
    """
    try:
        require_own(subject.target)
        return _patch(subject, structure, plan, fixed, frozenset(without_bias), request, seed)
    except Refused as refusal:
        path = module_path(subject.target, output)
        specs = describe(subject.model, subject.inputs)
        return _new_module(path, source_of(subject.target, specs, plan, path, without_bias), str(refusal))


def module_of_remedy(subject: Subject, plan: Plan, output: Path | None, refused: str) -> Change | None:
    """A new module that draws the weights and adds the shortcuts of a plan, for where the source is `refused`; None
    where the plan has anything else in it."""
    steps = list(steps_of(plan))
    drawn = [step for step in steps if isinstance(step, Reinitialization)]
    shortcuts = [step for step in steps if isinstance(step, Shortcut)]
    if len(drawn) + len(shortcuts) < len(steps):
        return None
    path = module_path(subject.target, output)
    specs = describe(subject.model, subject.inputs)
    return _new_module(path, source_of_remedied(subject.target, specs, drawn, shortcuts, path), refused)


def _new_module(path: Path, text: str, refused: str) -> Change:
    return Change(Proposal({}, {Path(os.path.abspath(path)): text.encode()}), refused=refused)


def module_path(target: Target, output: Path | None) -> Path:
    """Where the new module goes: `output`, or a name of its own in that folder, or beside the user's file."""
    path = default_path(target)
    if output is None:
        return path
    return output / path.name if output.is_dir() else output


def is_own(target: Target) -> bool:
    """Whether a model is defined in a file of the user's, and in no installed library."""
    return target.file is not None and rank(os.path.abspath(target.file)) == 0


def require_own(target: Target) -> None:
    """That the model is the user's own.

    Raises:
        Refused: it is an installed library's.
    """
    if not is_own(target):
        raise Refused(f"{place_of(target)} is an installed library's, not your own")


def _patch(
    subject: Subject,
    structure: Structure,
    plan: Sequence[Insertion],
    fixed: nn.Module,
    without_bias: frozenset[str],
    request: LoadRequest,
    seed: int,
) -> Change:
    """The first proposal that passes the check. Where none does, the reason against the first is given."""
    proposals = propose(subject.model, structure, plan, subject.origins, without_bias)
    return first_checked(proposals, checking(lambda: expect(subject.model, subject.inputs, fixed, seed), request))


def checking(expectation: Callable[[], Expected], request: LoadRequest) -> Callable[[Proposal], Checked]:
    """The check that a proposal builds what is expected. That runs the model, so not before there is a proposal, and
    once for all of them."""
    expected = cache(expectation)
    return lambda proposal: verify(proposal, expected(), request)


def first_checked(proposals: Iterable[Proposal], check: Callable[[Proposal], Checked | None]) -> Change:
    """The first proposal that passes the check, as a change.

    Raises:
        Refused: none does; with the reason against the first.
    """
    refusals: list[Refused] = []
    try:
        for proposal in proposals:
            try:
                checked = check(proposal) or Checked()
                return Change(proposal, checked.renamed, checked.norms, checked.factors)
            except Refused as refusal:
                refusals.append(refusal)
    except Refused as refusal:
        refusals.append(refusal)
    raise refusals[0]
