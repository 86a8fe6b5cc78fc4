"""`fix --auto`: the remedies that suit a sick model, tried from the smallest, each measured, until one heals it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradcheck_tool import auditing
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.chances import AT_ONCE, CONVINCING, EARLY, ENOUGH, LITTLE_AFTER
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.fixing.candidates import candidates
from gradcheck_tool.fixing.change import NO_CHANGE, Change, module_of_remedy
from gradcheck_tool.fixing.stages import patch_remedy
from gradcheck_tool.fixing.weights import require_format
from gradcheck_tool.fixing.weights import save_weights as write_weights
from gradcheck_tool.fixing.writing import write
from gradcheck_tool.inputs import describe
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.base import Case, Plan, Remedy, Step
from gradcheck_tool.remedy.combination import Combination, steps_of
from gradcheck_tool.remedy.cost import cost
from gradcheck_tool.remedy.insert_norm import InsertNorm
from gradcheck_tool.remedy.outcome import improved, reached
from gradcheck_tool.remedy.patch.proposal import Refused, diff
from gradcheck_tool.remedy.plan import covered
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.results import FixResult, GradientProfile, Trial
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest

NO_TARGET = "the model was handed over in Python, not loaded from a file"

_MIN_DEPTH = 1
"""A model that was measured to be sick is treated wherever it can be, however short its chains are."""


@dataclass(frozen=True)
class _Attempt:
    """A remedy that was tried: its plan, the model that came of it, and what was measured of that."""

    remedy: Remedy
    plan: Plan
    model: CapturedModule
    profile: GradientProfile

    @property
    def heals(self) -> bool:
        return self.profile.verdict == "healthy"

    def convinces(self, share: float = CONVINCING) -> bool:
        """Whether nothing else need be tried: the model soon explains such a share of the loss, and no figure is
        against it; or there is no loss that could tell."""
        seen = self.profile.learning
        if seen is None:
            return True
        if seen.overrules or not seen.learns or seen.last_steps > LITTLE_AFTER:
            return False
        return seen.explained >= ENOUGH or seen.last_steps <= AT_ONCE or (seen.soon or 0.0) >= share

    @property
    def rank(self) -> tuple[bool, bool, bool, int, float]:
        """The larger, the better it begins to learn; what convinces comes before what does not."""
        seen = self.profile.learning
        if seen is None:
            return True, True, True, 0, 1.0
        soon = -min(seen.last_steps, EARLY + 1), seen.soon or 0.0
        return not seen.overrules, seen.learns, self.convinces(), *soon


def auto_fix(
    subject: Subject,
    *,
    seed: int,
    trained: bool,
    insert: Callable[[InsertNorm, int], FixResult],
    tell: Callable[[str, int, int], None],
    request: LoadRequest | None = None,
    output: Path | None = None,
    in_place: bool = False,
    save_weights: Path | None = None,
) -> FixResult:
    """The result of the first remedy that heals and with which the model soon shows that it learns, or of the
    best of those that heal; of a healthy model a result with nothing in it.

    Args:
        subject: the model and its inputs.
        seed: of the probe.
        trained: whether the model's weights are worth keeping.
        insert: the whole fix by a norm in chains of at least so many blocks, source included, for where norms heal.
        tell: is told (what is done now, steps done, steps in all).
        request: how the model was loaded, for the check of its changed source; None where it has none.
        output: the file or folder to write to.
        in_place: whether the user's own files are changed instead.
        save_weights: the file that the fixed model's weights are written to, where a remedy heals.

    Raises:
        GradtoolError: the model does not run on these inputs, or has no weights to measure, or a place cannot be
            written to.
    """
    model = subject.model
    if save_weights is not None:
        require_format(save_weights)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise GradtoolError(
            "the model is on the meta device: without weights no remedy can be measured", hint="use --norm instead"
        )
    tell("reading the graph", 0, 1)
    subject = measurable(subject, seed, always=True)
    reading = auditing.read(model, subject.inputs)
    case = Case(model, subject.inputs, reading.structure, _MIN_DEPTH, subject.births)
    remedies = candidates(case, trained)
    tell("probing", 0, len(remedies) + 1)
    over = covered(reading.structure.chains, _MIN_DEPTH)
    before = measure(subject, seed, reading, over or None)
    over = reached(over, before)
    captured: CapturedModule = capture(model, subject.inputs)[0]
    trials: list[Trial] = []
    planned: list[tuple[Step, ...]] = []
    best: _Attempt | None = None
    for number, remedy in enumerate(remedies if before.verdict != "healthy" else ()):
        tell(f"trying {remedy.name}", number + 1, len(remedies) + 1)
        attempt = _attempt(remedy, captured, case, subject, seed, over, trials, planned)
        if attempt is not None and attempt.heals:
            best = attempt if best is None or attempt.rank > best.rank else best
            if best.convinces():
                break
    if best is not None and isinstance(best.remedy, InsertNorm):
        return replace(insert(best.remedy, _MIN_DEPTH), tried=tuple(trials), remedy=best.remedy.name, auto=True)
    change = NO_CHANGE
    if best is not None:
        tell("changing the source", len(remedies), len(remedies) + 1)
        change = _change(best, subject, case, over, request, seed, output, captured)
    written = write(change, subject.target, output, in_place)
    if best is not None and save_weights is not None:
        write_weights(save_weights, model, best.model, change)
    tell("done", len(remedies) + 1, len(remedies) + 1)
    return FixResult(
        target=subject.target,
        inputs=describe(model, subject.inputs),
        plan=(),
        skipped=best.plan.skipped if best else (),
        before=before,
        after=best.profile if best else before,
        improved=improved(before, best.profile) if best else (None if before.verdict == "healthy" else False),
        renamed=change.renamed,
        diff=diff(change.proposal),
        written=written,
        model=best.model if best else captured,
        patch_refused=change.refused,
        weights=str(save_weights) if best and save_weights is not None else None,
        auto=True,
        tried=tuple(trials),
        remedy=best.remedy.name if best else None,
        steps=tuple(map(str, steps_of(best.plan))) if best else (),
    )


def _change(
    best: _Attempt,
    subject: Subject,
    case: Case,
    over: Sequence[Sequence[str]],
    request: LoadRequest | None,
    seed: int,
    output: Path | None,
    captured: CapturedModule,
) -> Change:
    """What is written of a remedy other than norms alone: the user's own source, else of new weights and shortcuts a
    module that makes them."""
    if request is None:
        return replace(NO_CHANGE, refused=NO_TARGET)
    try:
        return patch_remedy(subject, case.structure, best.remedy, best.plan, over, request, seed)
    except Refused as refusal:
        refused = str(refusal)
    change = module_of_remedy(subject, best.plan, output, refused)
    if change is None:
        return replace(NO_CHANGE, refused=refused)
    otherwise = _drawn_otherwise(best.remedy)
    if otherwise != best.remedy:  # it has to heal whatever is drawn
        again = otherwise.apply(captured, best.plan, case)
        if measure(replace(subject, model=again), seed, over=over or None).verdict != "healthy":
            return replace(NO_CHANGE, refused=refused)
    return change


def _drawn_otherwise(remedy: Remedy) -> Remedy:
    """The same remedy; where it draws weights, with another seed."""
    if isinstance(remedy, Combination):
        return Combination(tuple(map(_drawn_otherwise, remedy.remedies)))
    return replace(remedy, seed=remedy.seed + 1) if isinstance(remedy, Reinitialize) else remedy


def _attempt(
    remedy: Remedy,
    captured: CapturedModule,
    case: Case,
    subject: Subject,
    seed: int,
    over: Sequence[Sequence[str]],
    trials: list[Trial],
    planned: list[tuple[Step, ...]],
) -> _Attempt | None:
    """Tries a remedy and adds to `trials`, and its steps to those `planned`; None where there is nothing that it can
    do, it does no more than a smaller one, or the same was tried."""
    plan = remedy.plan(case)
    if not plan.steps or (isinstance(remedy, Combination) and len(plan.steps) < len(remedy.remedies)):
        return None
    if plan.steps in planned:
        return None
    planned.append(plan.steps)
    fixed = remedy.apply(captured, plan, case)
    profile = measure(replace(subject, model=fixed), seed, over=over or None)
    measured = cost(captured, fixed, case.inputs)
    trials.append(
        Trial(
            remedy=remedy.name,
            title=remedy.title,
            verdict=profile.verdict,
            reason=profile.reasons[0] if profile.reasons else None,
            measured_decades=profile.measured_decades,
            heals=profile.verdict == "healthy",
            changes=len(list(steps_of(plan))),
            parameters=measured.parameters,
            step_time_ratio=measured.step_time_ratio,
            memory_ratio=measured.memory_ratio,
            breaks=remedy.breaks,
            explained=_explained(profile),
        )
    )
    return _Attempt(remedy, plan, fixed, profile)


def _explained(profile: GradientProfile) -> float | None:
    """What the inputs explain of the loss after a few steps; None where no loss tells."""
    return None if profile.learning is None else profile.learning.explained
