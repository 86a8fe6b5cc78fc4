"""Remedies other than norms → a change of the user's own source; of several, one after the other: each changes what
those before it have written.

Between two of them the changed source is loaded again, laid over the files, so that every place is where it is now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradcheck_tool import auditing
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.chains import Structure
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.fixing.change import Change, checking, first_checked, require_own
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.activations import ChangeActivation
from gradcheck_tool.remedy.base import Case, Plan, Remedy
from gradcheck_tool.remedy.combination import Combination, Stage
from gradcheck_tool.remedy.dropout import LessDropout
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.remedy.patch.activating import kinds_after, propose_activations
from gradcheck_tool.remedy.patch.dropouts import propose_dropouts
from gradcheck_tool.remedy.patch.expectation import Checked, Expected, expect
from gradcheck_tool.remedy.patch.initializing import draws_of, propose_draws
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.proposing import propose
from gradcheck_tool.remedy.patch.redrawn import expect_redrawn
from gradcheck_tool.remedy.patch.shortcuts import propose_shortcuts
from gradcheck_tool.remedy.patch.verify import verify_redrawn
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.shortcuts import AddShortcuts
from gradcheck_tool.target import Subject
from gradcheck_tool.target.overlay import overlaid
from gradcheck_tool.target.request import LoadRequest


@dataclass(frozen=True)
class _Scene:
    """A model as its source builds it now, what was read of it, and how it is checked."""

    subject: Subject
    structure: Structure
    request: LoadRequest
    over: Sequence[Sequence[str]]
    seed: int
    last: bool
    """Whether no remedy follows, so that the model is to be healthy."""

    def expected(self, remedy: Remedy, plan: Plan) -> Expected:
        """What the source has to build, once the plan is carried out."""
        model, inputs = self.subject.model, self.subject.inputs
        captured: CapturedModule = capture(model, inputs)[0]
        fixed = remedy.apply(captured, plan, Case(model, inputs, self.structure, 1, self.subject.births))
        return expect(model, inputs, fixed, self.seed)


def patch_remedy(
    subject: Subject,
    structure: Structure,
    remedy: Remedy,
    plan: Plan,
    over: Sequence[Sequence[str]],
    request: LoadRequest,
    seed: int,
) -> Change:
    """The change of the user's own source that carries `plan` out, checked in a fresh process.

    Args:
        subject: the model as it is, and its inputs.
        structure: of the recording that the plan was made from.
        remedy: that made the plan.
        plan: what is to change.
        over: the chains that were measured over.
        request: how the model was loaded.
        seed: of the check.

    Raises:
        Refused: with the reason, where it cannot be written.
    """
    require_own(subject.target)
    stages = _stages(remedy, plan)
    for one, _ in stages:
        if type(one) not in _WAYS:
            raise Refused(f"{one.name} is not written into a source: the library has the model")
    before: dict[Path, bytes] = {}
    after: dict[Path, bytes] = {}
    change = Change(Proposal(before, after))
    for number, (one, steps) in enumerate(stages):
        last = number + 1 == len(stages)
        with overlaid(after):
            if number:
                subject, structure = _again(request, seed)
            scene = _Scene(subject, structure, request, over, seed, last)
            proposals, check = _WAYS[type(one)](scene, one, steps)
            merged = (_merged(before, after, proposal) for proposal in proposals)
            change = first_checked(merged, check)
        before, after = dict(change.proposal.before), dict(change.proposal.after)
    if len(stages) > 1 and not isinstance(stages[-1][0], Reinitialize):
        _require_healthy(after, over, request, seed)
    return change


def _require_healthy(
    after: Mapping[Path, bytes], over: Sequence[Sequence[str]], request: LoadRequest, seed: int
) -> None:
    """That the model is healthy with the weights that its source draws: they are others than those measured so far."""
    with overlaid(after):
        subject, _ = _again(request, seed)
        try:
            profile = measure(subject, seed, over=over or None)
        except GradtoolError as error:
            raise Refused(f"the patched model does not run: {error.message}") from error
    if profile.verdict != "healthy":
        raise Refused(f"with the weights that the patched source draws the model is {profile.verdict}")


def _stages(remedy: Remedy, plan: Plan) -> list[tuple[Remedy, Plan]]:
    if not isinstance(remedy, Combination):
        return [(remedy, plan)]
    by_name = {one.name: one for one in remedy.remedies}
    return [(by_name[stage.remedy], stage.plan) for stage in plan.steps if isinstance(stage, Stage)]


def _again(request: LoadRequest, seed: int) -> tuple[Subject, Structure]:
    """The model of the source as it is now."""
    try:
        subject = measurable(request.load(), seed, always=True)
        return subject, auditing.read(subject.model, subject.inputs).structure
    except GradtoolError as error:
        raise Refused(f"the patched source does not load again: {error.message}") from error


def _merged(before: Mapping[Path, bytes], after: Mapping[Path, bytes], proposal: Proposal) -> Proposal:
    """`proposal`, of files that were changed already, as a change of what they were at first."""
    return Proposal({**proposal.before, **before}, {**after, **proposal.after})


_Way = tuple[Iterable[Proposal], Callable[[Proposal], Checked | None]]


def _redraw(scene: _Scene, remedy: Remedy, plan: Plan) -> _Way:
    draws = draws_of(scene.subject.model, scene.structure, plan.steps)
    expected = expect_redrawn(scene.subject.model, draws, scene.over, scene.seed, scene.last)
    proposals = propose_draws(scene.subject.model, scene.structure, draws, scene.subject.origins)
    return proposals, lambda proposal: verify_redrawn(proposal, expected, scene.request)


def _exchange(scene: _Scene, remedy: Remedy, plan: Plan) -> _Way:
    model, structure = scene.subject.model, scene.structure
    proposals = propose_activations(model, structure, plan.steps, scene.subject.origins)

    def expected() -> Expected:
        return replace(scene.expected(remedy, plan), kinds=kinds_after(model, structure, plan.steps))

    return proposals, checking(expected, scene.request)


def _lower(scene: _Scene, remedy: Remedy, plan: Plan) -> _Way:
    model, structure = scene.subject.model, scene.structure
    proposal = propose_dropouts(model, structure, plan.steps, scene.subject.origins)
    return [proposal], checking(lambda: scene.expected(remedy, plan), scene.request)


def _lead_around(scene: _Scene, remedy: Remedy, plan: Plan) -> _Way:
    model, structure = scene.subject.model, scene.structure
    proposal, made = propose_shortcuts(model, structure, plan.steps, scene.subject.origins)

    def expected() -> Expected:
        found = scene.expected(remedy, plan)
        return replace(found, kinds=Counter(found.kinds) + made)

    return [proposal], checking(expected, scene.request)


def _insert(scene: _Scene, remedy: Remedy, plan: Plan) -> _Way:
    model, structure = scene.subject.model, scene.structure
    proposals = propose(model, structure, insertions_of(plan), scene.subject.origins)
    return proposals, checking(lambda: scene.expected(remedy, plan), scene.request)


_WAYS: Mapping[type, Callable[[_Scene, Remedy, Plan], _Way]] = {
    Reinitialize: _redraw,
    ChangeActivation: _exchange,
    AddShortcuts: _lead_around,
    LessDropout: _lower,
    InsertNorm: _insert,
}
