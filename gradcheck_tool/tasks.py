"""Audit, probe and fix of a loaded target, as the command line asks for them. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gradcheck_tool import auditing
from gradcheck_tool.border.memory import tells_of_memory
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import describe
from gradcheck_tool.measuring import measurable, measure_several
from gradcheck_tool.remedy.insert_norm import InsertNorm, NormKind, Placement
from gradcheck_tool.results import AuditReport, FixResult, ProbeReport
from gradcheck_tool.rules import parse_codes
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest

Progress = Callable[[str, int, int], None]
"""Is told (what is done now, steps done, steps in all)."""


@tells_of_memory
def audit_subject(
    subject: Subject,
    *,
    min_depth: int = 4,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    probe: bool = False,
    seed: int = 0,
    batches: int = 1,
    seeds: int = 1,
    progress: Progress | None = None,
) -> AuditReport:
    """`audit` of a loaded target."""
    if not probe and (batches, seeds) != (1, 1):
        raise GradtoolError("batches and seeds are the probe's, and audit was not told to measure", hint="add probe")
    tell = progress or _silent
    steps = 2 + (batches * seeds if probe else 0)
    selected, ignored = parse_codes(select), parse_codes(ignore)
    tell("recording the model", 0, steps)
    if probe:
        subject = measurable(subject, seed)
    reading = auditing.read(subject.model, subject.inputs)
    profile = None
    if probe:
        profile = measure_several(
            subject,
            batches=batches,
            seeds=seeds,
            seed=seed,
            reading=reading,
            tell=lambda done: tell("probing", 1 + done, steps),
        )
    tell("predicting", steps - 1, steps)
    report = auditing.audit(subject, reading, min_depth=min_depth, select=selected, ignore=ignored, profile=profile)
    tell("done", steps, steps)
    return report


@tells_of_memory
def probe_subject(
    subject: Subject,
    *,
    seed: int = 0,
    steps: int | None = None,
    batches: int = 1,
    seeds: int = 1,
    progress: Progress | None = None,
) -> ProbeReport:
    """`probe` of a loaded target."""
    tell = progress or _silent
    runs = batches * seeds
    subject = measurable(subject, seed)
    profile = measure_several(
        subject,
        batches=batches,
        seeds=seeds,
        seed=seed,
        steps=steps,
        tell=lambda done: tell("probing", done, runs),
    )
    tell("done", runs, runs)
    return ProbeReport(subject.target, describe(subject.model, subject.inputs), profile)


@tells_of_memory
def fix_subject(
    subject: Subject,
    *,
    norm: NormKind = "batch",
    auto: bool = False,
    placement: Placement = "all",
    min_depth: int = 4,
    seed: int = 0,
    drop_bias: bool = False,
    keep_function: bool = False,
    output: Path | None = None,
    in_place: bool = False,
    save_weights: Path | None = None,
    request: LoadRequest | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """`fix` of a loaded target; writes the change to the file or folder `output`, or over the user's own files, and the
    fixed model's weights to the file `save_weights`.

    Args:
        norm: which norm goes in.
        placement: behind which blocks.
        auto: measures the remedies instead, and takes the smallest one that heals; in chains of any depth.
        request: how the target was loaded; what its spec alone says by default.
    """
    from gradcheck_tool import fixing  # which imports LibCST

    if request is None and (subject.target.file is not None or ":" in subject.target.spec):
        request = LoadRequest(subject.target.spec)
    tell = progress or _silent

    def insert(remedy: InsertNorm, depth: int) -> FixResult:
        return fixing.fix(
            subject,
            request,
            remedy=remedy,
            min_depth=depth,
            seed=seed,
            drop_bias=drop_bias,
            keep_function=keep_function,
            output=output,
            in_place=in_place,
            save_weights=save_weights,
            tell=tell,
            alternatives=not auto,
        )

    if not auto:
        return insert(InsertNorm(norm, placement), min_depth)
    from gradcheck_tool.fixing.auto import auto_fix

    trained = request is not None and request.weights is not None
    return auto_fix(
        subject,
        seed=seed,
        trained=trained or keep_function,
        insert=insert,
        tell=tell,
        request=request,
        output=output,
        in_place=in_place,
        save_weights=save_weights,
    )


def _silent(label: str, done: int, total: int) -> None:
    """Nobody wants to know."""
