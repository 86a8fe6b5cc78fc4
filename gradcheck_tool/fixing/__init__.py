"""A subject → `FixResult`: plan, probe, rewrite the graph, probe again, change the source, write what is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gradcheck_tool import auditing
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.fixing.change import NO_CHANGE, change_source, is_own
from gradcheck_tool.fixing.writing import write
from gradcheck_tool.inputs import describe
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.bias import drop_biases, void_biases
from gradcheck_tool.remedy.outcome import improved, reached
from gradcheck_tool.remedy.patch.proposal import diff
from gradcheck_tool.remedy.patch.proposing import keeps_bias
from gradcheck_tool.remedy.plan import covered, plan_batch_norm
from gradcheck_tool.remedy.rewrite import insert
from gradcheck_tool.results import FixResult, Skip
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest

_STEPS = 5


def fix(
    subject: Subject,
    request: LoadRequest | None,
    *,
    min_depth: int,
    seed: int,
    drop_bias: bool,
    output: Path | None,
    in_place: bool,
    tell: Callable[[str, int, int], None],
) -> FixResult:
    """Plans, applies and measures the insertion of batch norm, and writes it where that is asked for.

    Args:
        subject: the model and its inputs.
        request: how the model was loaded, for the check of its changed source; None where it has none.
        min_depth: the number of blocks from which a chain is covered.
        seed: of the probe and of the check.
        drop_bias: whether the biases go that the new norms make void.
        output: the file or folder to write to.
        in_place: whether the user's own files are changed instead.
        tell: is told (what is done now, steps done, steps in all).

    Raises:
        GradtoolError: the model does not run on these inputs, or the place cannot be written to.
    """
    tell("recording the model", 0, _STEPS)
    model = subject.model
    subject = measurable(subject, seed, always=True)
    reading = auditing.read(model, subject.inputs)
    plan, skipped = plan_batch_norm(reading.structure, model, min_depth, subject.births)
    over = covered(reading.structure.chains, min_depth)
    has_weights = not any(parameter.is_meta for parameter in model.parameters())
    tell("probing", 1, _STEPS)
    before = measure(subject, seed, reading, over or None) if has_weights else None
    over = reached(over, before)
    tell("rewriting", 2, _STEPS)
    fixed: CapturedModule = capture(model, subject.inputs)[0]
    fixed = insert(fixed, plan) if plan else fixed
    void = void_biases(reading.structure, model, plan) if drop_bias else ()
    if void and request is not None and is_own(subject.target):  # where the source cannot, the graph does not either
        kept = keeps_bias(model, reading.structure, plan, subject.origins, void)
        skipped += tuple(Skip(layer, reason) for layer, reason in kept.items())
        void = tuple(layer for layer in void if layer not in kept)
    fixed = drop_biases(fixed, void) if void else fixed
    left = fixed.state_dict().keys()
    without_bias = tuple(layer for layer in void if f"{layer}.bias" not in left)
    after = before
    if plan and has_weights:
        tell("probing the fixed model", 3, _STEPS)
        after = measure(replace(subject, model=fixed), seed, over=over)
    tell("changing the source", 4, _STEPS)
    change = NO_CHANGE
    if plan and request is not None:
        change = change_source(subject, reading.structure, plan, fixed, without_bias, request, seed, output)
    written = write(change, subject.target, output, in_place)
    fixed = copy.deepcopy(fixed)  # not before the probe and the check, which need the memory
    tell("done", _STEPS, _STEPS)
    return FixResult(
        target=subject.target,
        inputs=describe(model, subject.inputs),
        plan=plan,
        skipped=skipped,
        before=before,
        after=after,
        improved=improved(before, after) if plan else None,
        renamed=change.renamed,
        diff=diff(change.proposal),
        written=written,
        model=fixed,
        without_bias=without_bias,
        patch_refused=change.refused,
    )
