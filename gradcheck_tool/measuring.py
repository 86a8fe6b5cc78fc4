"""A subject, measured: with inputs that it can be measured with, and the loss and the targets that it came with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch.nn.modules.batchnorm import _BatchNorm

from gradcheck_tool import probing
from gradcheck_tool.auditing import Reading
from gradcheck_tool.inputs.samples import enough, varied
from gradcheck_tool.results import GradientProfile
from gradcheck_tool.target import Subject
from gradcheck_tool.verdict import STEPS


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
    steps: int = STEPS,
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
