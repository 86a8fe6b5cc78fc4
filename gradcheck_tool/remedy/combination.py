"""Several remedies, one after the other: each is planned for what those before it have made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.chains import analyze
from gradcheck_tool.remedy.base import Case, Plan, Remedy, Step
from gradcheck_tool.results import Location, Skip
from gradcheck_tool.state import training_mode


@dataclass(frozen=True)
class Stage:
    """The plan of one of the remedies; a step of the combination's. `location` is that of its first step."""

    remedy: str
    plan: Plan

    @property
    def location(self) -> Location | None:
        return next((step.location for step in self.plan.steps if step.location is not None), None)

    def __str__(self) -> str:
        return f"{self.remedy}: " + "; ".join(map(str, self.plan.steps))


@dataclass(frozen=True)
class Combination:
    """Remedies that are applied in their order, as one: `change-activation+reinit`.

    Args:
        remedies: two or more; their steps are stages of its plan, and those of which there is nothing to do are left
        out.
    """

    remedies: tuple[Remedy, ...]

    @property
    def name(self) -> str:
        return "+".join(remedy.name for remedy in self.remedies)

    @property
    def title(self) -> str:
        return ", then ".join(remedy.title for remedy in self.remedies)

    @property
    def breaks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sentence for remedy in self.remedies for sentence in remedy.breaks))

    def plan(self, case: Case) -> Plan:
        """Plans the first, carries it out on a capture of the model, plans the second for that, and so on.

        Raises:
            GradtoolError: the model cannot be captured.
        """
        stages: list[Stage] = []
        skipped: dict[Skip, None] = {}
        captured: CapturedModule | None = None
        for number, remedy in enumerate(self.remedies):
            plan = remedy.plan(case)
            skipped |= dict.fromkeys(plan.skipped)
            if not plan.steps:
                continue
            stages.append(Stage(remedy.name, plan))
            if number + 1 < len(self.remedies):
                captured = captured or capture(case.model, case.inputs)[0]
                captured = remedy.apply(captured, plan, case)
                case = case_of(captured, case)
        return Plan(tuple(stages), tuple(skipped))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with each stage carried out on what the last one made."""
        by_name = {remedy.name: remedy for remedy in self.remedies}
        for stage in plan.steps:
            assert isinstance(stage, Stage)
            captured = by_name[stage.remedy].apply(captured, stage.plan, case)
            case = case_of(captured, case)
        return captured


def case_of(captured: CapturedModule, case: Case) -> Case:
    """The case of a captured graph that came of that of `case`, as it trains."""
    with training_mode(captured):
        return replace(case, model=captured, structure=analyze(captured.graph, captured))


def steps_of(plan: Plan) -> Iterator[Step]:
    """The steps of a plan, those of its stages in their place."""
    for step in plan.steps:
        if isinstance(step, Stage):
            yield from steps_of(step.plan)
        else:
            yield step
