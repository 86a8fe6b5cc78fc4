"""A subject → `FixResult`: plan, probe, rewrite the graph, probe again, change the source, write what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gradcheck_tool import auditing
from gradcheck_tool.auditing import Reading
from gradcheck_tool.border.memory import is_lack_of_memory
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.fixing import weights
from gradcheck_tool.fixing.advice import Findings, advice, growth_foreseen, is_sick, samples_given, with_weights_redrawn
from gradcheck_tool.fixing.carrying import Work, carry_out
from gradcheck_tool.fixing.writing import write
from gradcheck_tool.inputs import describe
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.remedy.insert_norm.alike import alike
from gradcheck_tool.remedy.keep_function import require_identity
from gradcheck_tool.remedy.outcome import improved, reached
from gradcheck_tool.remedy.patch.proposal import diff
from gradcheck_tool.remedy.plan import covered
from gradcheck_tool.results import FixResult, GradientProfile, Insertion
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest

_STEPS = 5


def fix(
    subject: Subject,
    request: LoadRequest | None,
    *,
    remedy: InsertNorm,
    min_depth: int,
    seed: int,
    drop_bias: bool,
    keep_function: bool,
    output: Path | None,
    in_place: bool,
    save_weights: Path | None,
    tell: Callable[[str, int, int], None],
    alternatives: bool = True,
) -> FixResult:
    """Plans, applies and measures the insertion of norms, and writes it where that is asked for.

    Args:
        subject: the model and its inputs.
        request: how the model was loaded, for the check of its changed source; None where it has none.
        remedy: which norms.
        min_depth: the number of blocks from which a chain is covered.
        seed: of the probe and of the check.
        drop_bias: whether the biases go that the new norms make void.
        keep_function: whether the norms start as the identity, with the statistics of the inputs.
        output: the file or folder to write to.
        in_place: whether the user's own files are changed instead.
        save_weights: the file that the fixed model's weights are written to, where it has any norms.
        tell: is told (what is done now, steps done, steps in all).
        alternatives: whether a sick model is measured with new weights too, for the advice; not where that is done.

    Raises:
        GradtoolError: the model does not run on these inputs, a place cannot be written to, or the function cannot be
            kept.
    """
    tell("recording the model", 0, _STEPS)
    model, samples = subject.model, samples_given(subject.inputs)
    subject = measurable(subject, seed, always=True)
    reading = auditing.read(model, subject.inputs)
    case = Case(model, subject.inputs, reading.structure, min_depth, subject.births)
    planned = remedy.plan(case)
    has_weights = not any(parameter.is_meta for parameter in model.parameters())
    _require(insertions_of(planned), has_weights, keep_function, save_weights)
    over = covered(reading.structure.chains, min_depth)
    tell("probing", 1, _STEPS)
    before = _measured(subject, seed, reading, over, needed=bool(planned.steps)) if has_weights else None
    over = reached(over, before)
    tell("rewriting", 2, _STEPS)
    captured: CapturedModule = capture(model, subject.inputs)[0]
    work = Work(
        subject,
        request,
        reading,
        case,
        captured,
        before,
        over,
        has_weights=has_weights,
        seed=seed,
        drop_bias=drop_bias,
        keep_function=keep_function,
        output=output,
        tell=lambda what: tell(what, 3, _STEPS),
    )
    done = carry_out(work, remedy, planned)
    if done.change.refused is not None and (other := alike(remedy, planned, case)) is not None:
        again = carry_out(work, remedy, other)
        done = again if again.change.refused is None else done
    trained = keep_function or (request is not None and request.weights is not None)
    redrawn = None
    if alternatives and not trained and is_sick(before):
        tell("trying new weights", 4, _STEPS)
        redrawn = with_weights_redrawn(captured, case, subject, seed, over)
    written = write(done.change, subject.target, output, in_place)
    if done.plan and save_weights is not None:
        weights.save_weights(save_weights, model, done.fixed, done.change)
    tell("done", _STEPS, _STEPS)
    growth = growth_foreseen(case, done.plan) if not keep_function else None  # that is of fresh norms
    return FixResult(
        target=subject.target,
        inputs=describe(model, subject.inputs),
        plan=done.plan,
        skipped=done.skipped,
        before=before,
        after=done.after,
        improved=improved(before, done.after) if done.plan else None,
        renamed=done.change.renamed,
        diff=diff(done.change.proposal),
        written=written,
        model=done.fixed,
        without_bias=done.without_bias,
        patch_refused=done.change.refused,
        function_change=done.function_change,
        weights=str(save_weights) if done.plan and save_weights is not None else None,
        advice=(
            *([_NOT_MEASURED] if before is None and has_weights else ()),
            *advice(Findings(done.plan, before, done.after, growth, redrawn, trained, samples), request),
        ),
    )


_NOT_MEASURED = "there was not enough memory to probe the model: take a smaller batch or fewer layers for that"


def _measured(
    subject: Subject, seed: int, reading: Reading, over: Sequence[Sequence[str]], *, needed: bool
) -> GradientProfile | None:
    """The model as it is; None where a probe is not `needed`, since there is nothing to insert, and memory runs out."""
    try:
        return measure(subject, seed, reading, over or None)
    except Exception as error:  # of the user's code too: what it ran out of is the same
        if needed or not is_lack_of_memory(error):
            raise
        return None


def _require(plan: Sequence[Insertion], has_weights: bool, keep_function: bool, save_weights: Path | None) -> None:
    """That what is asked for can be done, before the work starts."""
    if keep_function:
        require_identity(plan)
    if not has_weights and (keep_function or save_weights is not None):
        raise GradtoolError("the model is on the meta device and has no weights", hint="give --weights FILE")
    if save_weights is not None:
        weights.require_format(save_weights)
