"""A subject, measured: with inputs that it can be measured with, and the loss and the targets that it came with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch.nn.modules.batchnorm import _BatchNorm

from gradcheck_tool import probing
from gradcheck_tool.auditing import Reading
from gradcheck_tool.batches import drawn_anew
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs.samples import enough, varied
from gradcheck_tool.probing.several import summarize
from gradcheck_tool.results import GradientProfile
from gradcheck_tool.target import Subject


def measurable(subject: Subject, seed: int, always: bool = False) -> Subject:
    """`subject` with inputs that batch statistics can be taken of, where they are (or will be, `always`) taken. Inputs
    that come with targets stay as they are."""
    if subject.targets is not None:
        return subject
    inputs = varied(subject.model, subject.inputs, seed)
    if always or any(isinstance(module, _BatchNorm) for module in subject.model.modules()):
        inputs = enough(inputs, seed)
    return replace(subject, inputs=inputs)


def measure(
    subject: Subject,
    seed: int,
    reading: Reading | None = None,
    over: Sequence[Sequence[str]] | None = None,
    steps: int | None = None,
) -> GradientProfile:
    """The profile of a `measurable` subject, over the chains given, or those of `reading`, at the start and after
    `steps` optimizer steps."""
    return probing.probe(
        subject.model,
        subject.inputs,
        loss_fn=subject.loss_fn,
        targets=subject.targets,
        seed=seed,
        steps=steps,
        structure=reading.structure if reading else None,
        over=over,
    )


def measure_several(
    subject: Subject,
    *,
    batches: int,
    seeds: int,
    seed: int,
    reading: Reading | None = None,
    steps: int | None = None,
    tell: Callable[[int], None],
) -> GradientProfile:
    """The profile of a `measurable` subject over `batches`, each with each of the `seeds` that begin with `seed`. Those
    behind the first are the user's, or drawn from the seeds that follow `seed` if gradtool has drawn the first.

    Args:
        reading: of the subject's model on its first batch.
        tell: is told how many runs are done, before each.

    Raises:
        GradtoolError: as `measure`, with the number of the batch; or reading a batch fails.
    """
    following = subject.following
    if following is None:
        drawn = drawn_anew(subject.model, subject.inputs, batches - 1, seed)
        following = ((inputs, subject.targets) for inputs in drawn)
    runs: list[GradientProfile] = []
    taken = 0
    for batch in itertools.chain([None], itertools.islice(following, batches - 1)):
        if batch is not None:
            subject = measurable(replace(subject, inputs=batch[0], targets=batch[1]), seed + taken)
            reading = None
        for number in range(seeds):
            tell(len(runs))
            try:
                runs.append(measure(subject, seed + number, reading, steps=steps))
            except GradtoolError as error:
                if batch is None:
                    raise
                raise _of_batch(error, taken + 1) from error
        taken += 1
    profile = summarize(runs, taken, seeds)
    if taken == batches:
        return profile
    short = f"measured on {taken} batch{'es' if taken > 1 else ''}, not on {batches}: no more were given"
    return replace(profile, reasons=(*profile.reasons, short))


def _of_batch(error: GradtoolError, number: int) -> GradtoolError:
    return GradtoolError(
        f"batch {number}: {error.message}",
        file=error.file,
        line=error.line,
        hint=error.hint,
        user_traceback=error.user_traceback,
    )
