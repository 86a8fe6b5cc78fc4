"""The remedy that inserts norms: between each weight layer of a chain and its activation, per call.

output.py says what a layer puts out, kinds.py which norm fits that, fewest.py which blocks can do without, here it
becomes a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Block, location_of
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.inputs import batch_size
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.insert_norm.fewest import Spacing
from gradcheck_tool.remedy.insert_norm.kinds import KINDS, Fit, Kind, NormKind, forecast_kind
from gradcheck_tool.remedy.insert_norm.output import Output, objection, output_of
from gradcheck_tool.remedy.plan import treat
from gradcheck_tool.remedy.rewrite import insert
from gradcheck_tool.remedy.scale_inputs import ScaleInputs
from gradcheck_tool.results import Insertion, Skip

__all__ = ["KINDS", "InsertNorm", "NormKind", "Placement", "insertions_of"]

Placement = Literal["all", "fewest"] | Callable[[Case], Collection[str]]
"""Behind which blocks: all of the chains that are deep enough; the fewest of them with which the gradient is predicted
to stay within a decade; or those whose calls a function names."""


@dataclass(frozen=True)
class InsertNorm:
    """Norms of one kind (see kinds.py), or with `auto` of the kind that fits each layer.

    Args:
        kind: one of `KINDS`.
        placement: where; by default behind every block of every chain of at least `Case.min_depth`.

    Raises:
        ValueError: there is no such kind, or no such placement.
    """

    kind: NormKind = "batch"
    placement: Placement = "all"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"norm is {self.kind!r}, none of {', '.join(KINDS)}")
        if not callable(self.placement) and self.placement not in _WHERE:
            raise ValueError(f"placement is {self.placement!r}, neither a function nor one of {', '.join(_WHERE)}")

    @property
    def _kind(self) -> Kind:
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        return self._kind.remedy

    @property
    def title(self) -> str:
        where = "some blocks" if callable(self.placement) else _WHERE[self.placement]
        return f"{self._kind.title} behind {where}"

    @property
    def breaks(self) -> tuple[str, ...]:
        return self._kind.breaks

    def plan(self, case: Case) -> Plan:
        """The norms, each an `Insertion`, and the layers that get none; `case.model` is read alone."""
        only = self.placement(case) if callable(self.placement) else None
        answers = treat(case.structure, case.min_depth, lambda block: self._norm_behind(block, case), only)
        if self.placement == "fewest":
            answers |= _left_out(case, answers)
        steps = tuple(answer for answer in answers.values() if isinstance(answer, Insertion))
        return Plan(steps, tuple(answer for answer in answers.values() if isinstance(answer, Skip)))

    def _norm_behind(self, block: Block, case: Case) -> Insertion | Skip:
        reason = objection(block, case.structure, case.model)
        if reason is not None:
            return Skip(block.name, reason)
        samples = None if case.inputs.free_batch else batch_size(case.inputs)
        output = output_of(block, case.structure, case.model, samples)
        fit = self._kind.fit(output)
        if isinstance(fit, str):
            return Skip(block.name, fit + self._way_out(output))
        where = location_of(block.call, case.births)
        return Insertion(block.name, fit.norm, output.channels, where, fit.groups, fit.note)

    def _way_out(self, output: Output) -> str:
        """Another kind that fits where this one does not, if there is one."""
        names: tuple[NormKind, ...] = ("layer", "group", "batch")
        for name in names:
            if name != self.kind and isinstance(KINDS[name].fit(output), Fit):
                return f"; {KINDS[name].title} fits: --norm {name}"
        return ""

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with the norms of `plan`, freshly initialized."""
        return insert(captured, insertions_of(plan))


_WHERE = {"all": "every block", "fewest": "as few blocks as keep the gradient within a decade"}


def _left_out(case: Case, answers: Mapping[Block, Insertion | Skip]) -> dict[Block, Skip]:
    """The blocks that could have a norm and can do without, by what is predicted of each chain with norms of one kind.
    None is left out where nothing is predicted, where norms of several kinds fit, or where the inputs are far from the
    scale that the theory assumes."""
    if ScaleInputs().plan(case).steps:
        return {}
    forecaster = Forecaster(case.model, case.structure)
    found: dict[Block, Skip] = {}
    for chain in case.structure.chains:
        fits = {block: answers[block] for block in chain if block in answers}
        norms = {block: fit for block, fit in fits.items() if isinstance(fit, Insertion)}
        kinds = {forecast_kind(norm.norm, norm.num_features, norm.groups) for norm in norms.values()}
        kind = kinds.pop() if len(kinds) == 1 else None
        chosen = Spacing(forecaster, chain, kind, norms).fewest() if kind is not None and len(chain) > 1 else None
        if chosen is not None:
            reason = (
                f"no norm needed: the gradient is predicted to spread over {chosen.spread:.1f} decades in its chain"
            )
            found |= {block: Skip(block.name, reason) for block in norms if block not in chosen.blocks}
    return found


def insertions_of(plan: Plan) -> tuple[Insertion, ...]:
    """The norms of a plan."""
    return tuple(step for step in plan.steps if isinstance(step, Insertion))
