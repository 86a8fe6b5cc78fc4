"""A plan of norms, carried out: the graph with the norms, what that is worth, and the user's source changed so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradcheck_tool.auditing import Reading
from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.fixing.change import NO_CHANGE, Change, change_source, is_own
from gradcheck_tool.measuring import measure
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.bias import drop_biases, void_biases
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.remedy.keep_function import change_of_function, kept_function
from gradcheck_tool.remedy.patch.proposing import keeps_bias
from gradcheck_tool.results import GradientProfile, Insertion, Skip
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest


@dataclass(frozen=True)
class Work:
    """What every plan for one model is carried out with.

    `over` are the chains that are measured over; the rest is what `fixing.fix` was given.
    """

    subject: Subject
    request: LoadRequest | None
    reading: Reading
    case: Case
    captured: CapturedModule
    before: GradientProfile | None
    over: Sequence[Sequence[str]]
    has_weights: bool
    seed: int
    drop_bias: bool
    keep_function: bool
    output: Path | None
    tell: Callable[[str], None]


@dataclass(frozen=True)
class Carried:
    """A plan and what came of it. `fixed` shares the model's weights; `function_change` is by how much its outputs in
    evaluation mode differ, where they were to be kept."""

    plan: tuple[Insertion, ...]
    skipped: tuple[Skip, ...]
    fixed: CapturedModule
    without_bias: tuple[str, ...]
    function_change: float | None
    after: GradientProfile | None
    change: Change


def carry_out(work: Work, remedy: InsertNorm, planned: Plan) -> Carried:
    """Inserts the norms of `planned`, probes the model with them, and changes the source.

    Raises:
        GradtoolError: the fixed model does not run, or its function cannot be kept.
    """
    plan, skipped = insertions_of(planned), planned.skipped
    if not plan:
        return Carried(plan, skipped, work.captured, (), None, work.before, NO_CHANGE)
    subject, structure, request = work.subject, work.reading.structure, work.request
    fresh = remedy.apply(work.captured, planned, work.case)
    old = {name for name, _ in work.captured.named_modules()}
    norms = [name for name, _ in fresh.named_modules() if name not in old]
    void = void_biases(structure, subject.model, plan) if work.drop_bias else ()
    if void and request is not None and is_own(subject.target):  # where the source cannot, the graph does not either
        kept = keeps_bias(subject.model, structure, plan, subject.origins, void)
        skipped += tuple(Skip(layer, reason) for layer, reason in kept.items())
        void = tuple(layer for layer in void if layer not in kept)
    fresh = drop_biases(fresh, void) if void else fresh
    left = fresh.state_dict().keys()
    without_bias = tuple(layer for layer in void if f"{layer}.bias" not in left)
    fixed, function_change = fresh, None
    if work.keep_function:
        fixed = kept_function(fresh, norms, subject.inputs, work.seed)
        function_change = change_of_function(work.captured, fixed, subject.inputs, work.seed)
    after = work.before
    if work.has_weights:
        work.tell("probing the fixed model")
        after = measure(replace(subject, model=fixed), work.seed, over=work.over)
    change = NO_CHANGE
    if request is not None:  # what the norms hold is in no source: it is checked with fresh ones
        work.tell("changing the source")
        change = change_source(subject, structure, plan, fresh, without_bias, request, work.seed, work.output)
    return Carried(plan, skipped, fixed, without_bias, function_change, after, change)
