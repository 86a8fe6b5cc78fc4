"""Passes forward and backward through a model → `GradientProfile`. The model is left as it was.

watching.py notes every tensor of a pass, single.py measures one pass, changes.py compares layers, learning.py trains
for a moment, verdict.py judges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from gradcheck_tool.capturing import observe
from gradcheck_tool.chains import Structure, analyze
from gradcheck_tool.chances import Chance
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.inputs.samples import is_noise
from gradcheck_tool.ops import Kind
from gradcheck_tool.probing.backward import Loss, Signs
from gradcheck_tool.probing.changes import growth, largest_change, shrinkage
from gradcheck_tool.probing.learning import Training
from gradcheck_tool.probing.lessons import noise_of
from gradcheck_tool.probing.single import Measurement, Pass
from gradcheck_tool.probing.stepping import step
from gradcheck_tool.probing.zeros import explain_zeros
from gradcheck_tool.results import AfterSteps, GradientProfile, ProbeOutput
from gradcheck_tool.state import preserved, training_mode
from gradcheck_tool.thresholds import STEPS
from gradcheck_tool.verdict import Evidence, chance, judge
from gradcheck_tool.wording import in_short

__all__ = ["probe"]


def probe(
    model: nn.Module,
    inputs: Inputs,
    *,
    loss_fn: Loss | None = None,
    targets: Any = None,
    seed: int = 0,
    steps: int | None = None,
    structure: Structure | None = None,
    over: Sequence[Sequence[str]] | None = None,
) -> GradientProfile:
    """Measures the gradient norms of every weight layer in training mode, in one pass forward and backward; then takes
    a few optimizer steps and measures once more, for the verdict. With a loss and targets it also trains on the batch
    for a moment, where the figures leave open whether the model learns: one that does so at once is looked at no more.
    All steps and their traces are undone.

    Args:
        model: with real weights; left as it was.
        inputs: the batch.
        loss_fn: `loss_fn(output, targets)`; without it the loss is a random projection of every floating output.
        seed: of the projection, and of whatever the model draws.
        steps: after how many optimizer steps it is measured once more, whatever the start shows; 0 for the start alone.
            None for two, where what the start shows does not suffice.
        structure: the analysis of the same model on the same inputs, where it is there already.
        over: the chains, by layer names, over which the change is measured; those of `structure` where None.

    Raises:
        GradtoolError: the model raises, has no weights, or gives nothing that a gradient can be taken of.
    """
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise GradtoolError(
            "the model's weights are on the meta device: there is nothing to measure", hint="audit it instead"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise GradtoolError(
            f"no parameter of {type(model).__name__} requires a gradient, so there is none to measure",
            hint="unfreeze what is to be trained: model.requires_grad_(True)",
        )
    with training_mode(model):
        if structure is None:
            structure = analyze(observe(model, inputs).graph, model)
        probed = _Probe(model, inputs, loss_fn, targets, seed)
        return _profile(probed, probed.start(structure, wants_signs=steps != 0), over, steps)


@dataclass(frozen=True)
class _Shown:
    """What the passes have shown: the structure of what ran, and the measurements as it stands and after `taken` steps
    (None where none was taken, or where the model went another way then). `signs` are of the gradient at the start."""

    structure: Structure
    start: Measurement
    signs: Signs | None = None
    taken: int = 0
    stepped: Measurement | None = None


@dataclass(frozen=True)
class _Probe:
    """What is probed, and with what."""

    model: nn.Module
    inputs: Inputs
    loss_fn: Loss | None
    targets: Any
    seed: int

    def start(self, structure: Structure, wants_signs: bool) -> _Shown:
        """With real values a model may go another way than without them: its figures belong to that way's calls, so it
        runs once more then, watched there."""
        with preserved(self.model, values=True):
            first = self._pass(structure, wants_signs)
            output, graph = first.forward()
            if _same_calls(graph, structure.graph):
                return _Shown(structure, first.measure(output), first.signs)
        structure = analyze(graph, self.model)
        with preserved(self.model, values=True):
            second = self._pass(structure, wants_signs)
            return _Shown(structure, second.measure(second.forward()[0]), second.signs)

    def after(self, steps: int, shown: _Shown) -> _Shown:
        """`shown` with what `steps` optimizer steps add; emptied of its signs."""
        if not steps or shown.start.non_finite is not None:
            return shown
        with preserved(self.model, values=True):
            taken = step(self.model, self.inputs, self.loss_fn, self.targets, self.seed, steps, shown.signs)
            if not taken:
                return shown
            last = self._pass(shown.structure)
            output, graph = last.forward()
            measured = last.measure(output) if _same_calls(graph, shown.structure.graph) else None
        return replace(shown, taken=taken, stepped=measured)

    def training(self) -> Training | None:
        """None where there is nothing to train for."""
        if self.loss_fn is None or self.targets is None:
            return None
        return Training(self.model, self.inputs, self.loss_fn, self.targets, self.seed)

    def _pass(self, structure: Structure, wants_signs: bool = False) -> Pass:
        return Pass(self.model, self.inputs, structure, self.loss_fn, self.targets, self.seed, wants_signs)


def _same_calls(graph: fx.Graph, other: fx.Graph) -> bool:
    """Whether the same calls made the tensors of both graphs, under the same names."""

    def calls(of: fx.Graph) -> list[tuple[str, str, object]]:
        return [(n.op, n.name, n.target) for n in of.nodes if n.op.startswith("call") and "shape" in n.meta]

    return calls(graph) == calls(other)


def _profile(probed: _Probe, shown: _Shown, over: Sequence[Sequence[str]] | None, steps: int | None) -> GradientProfile:
    """Judges by what `shown` has of the start, and by as much more as that leaves open."""
    structure, start = shown.structure, shown.start
    chains = over if over is not None else [[block.name for block in chain] for chain in structure.chains]
    evidence = _evidence(start, chains)
    too_small = [layer.name for layer in start.layers] if evidence.change == -math.inf else []
    zeros = explain_zeros(start.layers, structure, probed.model, too_small)
    evidence = replace(evidence, zeros=zeros, noisy=bool(noise_of(probed.model)))
    training, learning, stepped = probed.training(), None, None
    if training is not None and steps is None and (given := _chance(probed, structure, evidence)) and given.patient:
        learning = training.begin()
    if learning is None:
        shown = probed.after(STEPS if steps is None else steps, shown)
        stepped = None if shown.stepped is None else _evidence(shown.stepped, chains)
        if training is not None and shown.taken and (given := _chance(probed, structure, evidence, stepped)):
            learning = training.last(given)
    by_figures, _ = judge(evidence, stepped, shown.taken)
    verdict, reasons = judge(evidence, stepped, shown.taken, learning)
    if learning is not None:
        learning = replace(learning, overrules=by_figures != "healthy" and verdict == "healthy")
    return GradientProfile(
        verdict=verdict,
        reasons=(*reasons, *_not_measured(structure)),
        loss="random-projection" if probed.loss_fn is None else "user",
        batch_size=batch_size(probed.inputs),
        batches=1,
        seed=probed.seed,
        layers=start.layers,
        measured_decades=evidence.change,
        measured_over=evidence.over,
        output=ProbeOutput(start.kind, start.finite),
        rank=start.rank,
        steps=shown.taken,
        stepped=None if stepped is None or shown.stepped is None else _after(stepped, shown.stepped),
        learning=learning,
    )


def _chance(probed: _Probe, structure: Structure, evidence: Evidence, stepped: Evidence | None = None) -> Chance | None:
    """How the model can show whether it learns. That one which looks healthy does not learn noise is no fault of it,
    nor how little a linear one learns."""
    given = chance(evidence, stepped)
    excused = given is not None and given.patient and (len(structure.calls) < 2 or is_noise(probed.inputs))
    return None if excused else given


def _evidence(measured: Measurement, chains: Sequence[Sequence[str]]) -> Evidence:
    layers = measured.layers
    change, between = largest_change(layers, chains, measured.floors)
    grown, grown_over = growth(layers)
    return Evidence(
        layers,
        change,
        between,
        along_chain=any(len(chain) > 1 for chain in chains),
        shrinkage=shrinkage(layers),
        growth=grown,
        growth_over=grown_over,
        non_finite=measured.non_finite,
        without_gradient=measured.without_gradient,
    )


def _after(evidence: Evidence, measured: Measurement) -> AfterSteps:
    spreads = [layer.input_spread for layer in measured.layers if layer.input_spread is not None]
    return AfterSteps(
        measured_decades=evidence.change,
        last_spread=spreads[-1] if spreads else None,
        rank=measured.rank,
        loss=measured.loss,
        finite=measured.non_finite is None,
    )


def _not_measured(structure: Structure) -> list[str]:
    """torch's fused recurrent layers have weights, and no calls of weight layers that could be measured."""
    fused = [node for node, op in structure.operations.items() if op.kind is Kind.RECURRENT]
    names = list(dict.fromkeys(str(node.target) for node in fused if node.op == "call_module"))
    return [f"not measured: {in_short(names)}, whose steps run fused"] if names else []
