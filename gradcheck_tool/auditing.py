"""A subject → `AuditReport`: record, analyze, predict, apply the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gradcheck_tool.capturing import Recording, Steering, observe
from gradcheck_tool.chains import Block, Structure, analyze
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.inputs import Inputs, describe
from gradcheck_tool.probing.changes import decades_between
from gradcheck_tool.results import (
    AuditReport,
    CaptureFacts,
    Chain,
    Finding,
    GradientProfile,
    ModelFacts,
    Specialization,
)
from gradcheck_tool.rules import all_rules
from gradcheck_tool.rules.view import View
from gradcheck_tool.sources import locate
from gradcheck_tool.state import training_mode
from gradcheck_tool.target import Subject


@dataclass(frozen=True)
class Reading:
    """A model, read: the recording of one pass in training mode, and its analysis."""

    recording: Recording
    structure: Structure


def read(model: nn.Module, inputs: Inputs) -> Reading:
    """Records and analyzes `model` as it will be trained.

    Raises:
        GradtoolError: the model's forward raises on these inputs.
    """
    with training_mode(model):
        recording = observe(model, inputs)
    return Reading(recording, analyze(recording.graph, model))


def audit(
    subject: Subject,
    reading: Reading,
    *,
    min_depth: int = 4,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    profile: GradientProfile | None = None,
) -> AuditReport:
    """The report on what was read.

    Args:
        subject: what was looked at.
        reading: of the subject's model on its inputs.
        min_depth: the number of blocks from which a chain is a finding.
        select: codes of the rules to apply; all of them where empty.
        ignore: codes of rules to leave out.
        profile: what the probe measured, where it did.
    """
    structure, recording = reading.structure, reading.recording
    forecaster = Forecaster(subject.model, structure)
    chains = list(zip(structure.chains, _chains(structure, forecaster, min_depth, profile), strict=True))
    view = View(subject.model, recording, structure, chains, subject.births, min_depth)
    findings: list[Finding] = []
    for rule in all_rules():
        if (not select or rule.code in select) and rule.code not in ignore:
            findings.extend(rule.check(view))
    return AuditReport(
        target=subject.target,
        inputs=describe(subject.model, subject.inputs),
        model=ModelFacts(
            class_=type(subject.model).__name__,
            parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
            weight_layers=len({call.layer for call in structure.calls}),
        ),
        capture=CaptureFacts(recording.device, len(structure.graph.nodes), specializations(recording.steered)),
        chains=tuple(chain for _, chain in chains),
        findings=tuple(findings),
        not_analyzed=structure.not_analyzed,
        probe=profile,
        forecast=forecaster.forecast(),
    )


def _chains(
    structure: Structure, forecaster: Forecaster, min_depth: int, profile: GradientProfile | None
) -> list[Chain]:
    """The chains, with what is predicted of them; with batch norm, of those that `fix` would treat."""
    deep = [blocks for blocks in structure.chains if len(blocks) >= min_depth]  # deepest first: the first of all
    fixed = [prediction.decades for prediction in forecaster.predict_fixed(deep)]
    fixed += [None] * (len(structure.chains) - len(deep))
    return [
        _chain(blocks, forecaster, with_norms, profile)
        for blocks, with_norms in zip(structure.chains, fixed, strict=True)
    ]


def _chain(
    blocks: Sequence[Block], forecaster: Forecaster, with_norms: float | None, profile: GradientProfile | None
) -> Chain:
    prediction = forecaster.predict(blocks)
    return Chain(
        layers=tuple(block.name for block in blocks),
        activations=tuple(block.activation_name for block in blocks),
        depth=len(blocks),
        predicted_decades=prediction.decades,
        measured_decades=_measured(blocks, profile),
        note=prediction.reason,
        predicted_decades_with_bn=with_norms,
    )


def _measured(blocks: Sequence[Block], profile: GradientProfile | None) -> float | None:
    if profile is None:
        return None
    norms = {layer.name: layer.output_grad_norm for layer in profile.layers}
    return decades_between(norms.get(blocks[0].name), norms.get(blocks[-1].name))


def specializations(steered: Sequence[Steering]) -> tuple[Specialization, ...]:
    """The places where the model was steered, each once."""
    found = {}
    for steering in steered:
        location = locate(steering.where)
        place = (location.file, location.line) if location else (None, None)
        found[steering.reason, place] = Specialization(steering.reason, *place)
    return tuple(found.values())
