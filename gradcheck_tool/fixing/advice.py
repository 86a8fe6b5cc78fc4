"""What else to know of a fix that inserts norms → sentences, each from something that was measured or predicted: the
model was healthy before, batch norm itself makes the gradient grow, the batch is tiny, another remedy heals as well.

What the norms heal without a doubt, and nothing smaller does, gets no sentence.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.measuring import measure
from gradcheck_tool.probing.changes import decades_between
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.gains import SOUND_DECADES
from gradcheck_tool.remedy.insert_norm.kinds import FEWEST_SAMPLES
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.results import GradientProfile, Insertion
from gradcheck_tool.target import Subject
from gradcheck_tool.target.request import LoadRequest
from gradcheck_tool.verdict import in_words

GROWTH_DECADES = 1.5
"""Predicted growth with batch norm that is worth a word. On handwritten digits plain nets with up to 1.4 reach 96 % and
more, as well as with weights drawn anew; with 1.6 and more 88 % and less (benchmarks/batch_norm.py depth)."""
LEARNS_DECADES = 2.0
"""Up to which a net that is healthy is better trained as it is before norms are tried: of plain nets on handwritten
digits those with up to 2.4 reach 92 % and more, while 5 blocks of sigmoid, with 3.4, reach 33 %, and 97 % with batch
norm (benchmarks/batch_norm.py depth)."""
_LEVEL = 0.02
"""Decades of a gradient that keeps its size, to 5 %."""


@dataclass(frozen=True)
class Growth:
    """A chain in which batch norm is predicted to make the gradient grow on its way back, by so many `decades`."""

    layers: tuple[str, ...]
    decades: float


@dataclass(frozen=True)
class Findings:
    """What is known of a fix. `growth` was predicted before anything was measured; `redrawn` is the profile of the
    model as it was with weights drawn anew, None where that was not tried; `trained`: whether its weights are worth
    keeping; `samples`: of the batch that the user gives, None where the size is not the user's."""

    plan: Sequence[Insertion]
    before: GradientProfile | None
    after: GradientProfile | None
    growth: Growth | None
    redrawn: GradientProfile | None
    trained: bool
    samples: int | None


def growth_foreseen(case: Case, plan: Sequence[Insertion]) -> Growth | None:
    """The chain in which fresh batch norms are predicted to make the gradient grow most, and enough to matter;
    None where there is none, or the theory does not hold. Chains in which a block gets none are left out."""
    normed = {insertion.after for insertion in plan if insertion.norm.startswith("BatchNorm")}
    chains = [
        chain
        for chain in case.structure.chains
        if len(chain) >= case.min_depth and all(block.name in normed for block in chain)
    ]
    if not chains:
        return None
    predicted = Forecaster(case.model, case.structure).predict_fixed(chains)
    growths = [
        Growth(tuple(block.name for block in chain), prediction.decades)
        for chain, prediction in zip(chains, predicted, strict=True)
        if prediction.decades is not None and prediction.decades >= GROWTH_DECADES
    ]
    return max(growths, key=lambda growth: growth.decades, default=None)


def with_weights_redrawn(
    captured: CapturedModule, case: Case, subject: Subject, seed: int, over: Sequence[Sequence[str]]
) -> GradientProfile | None:
    """The profile of the model with its weights drawn anew, the cheapest remedy that suits most sick nets, measured
    `over` the same chains; None where there is nothing to draw. As under `fix --auto`, in chains of any depth.

    Raises:
        GradtoolError: the model does not run on these inputs.
    """
    remedy, case = Reinitialize(), replace(case, min_depth=1)
    plan = remedy.plan(case)
    if not plan.steps:
        return None
    return measure(replace(subject, model=remedy.apply(captured, plan, case)), seed, over=over or None)


def samples_given(inputs: Inputs) -> int | None:
    """The size of the batch where the user gives one; None where it comes with the model, or gradtool chose it."""
    return batch_size(inputs) if inputs.origin in ("option", "file") and not inputs.free_batch else None


def is_sick(profile: GradientProfile | None) -> bool:
    """Whether something was measured, and it is not healthy."""
    return profile is not None and profile.verdict != "healthy"


def advice(found: Findings, request: LoadRequest | None) -> tuple[str, ...]:
    """The sentences; none where nothing is doubtful.

    Args:
        found: what was measured and predicted.
        request: how the model was loaded, for commands to type; None where it was handed over in Python.
    """
    return tuple(filter(None, (_was_healthy(found), *_of_batch_norm(found), _alternative(found, _auto(request)))))


def _was_healthy(found: Findings) -> str | None:
    before = found.before
    if not found.plan or before is None or is_sick(before):
        return None
    change, over = before.measured_decades, before.measured_over
    if change is not None and abs(change) >= LEARNS_DECADES and not is_sick(found.after):
        return None
    figure = f"the gradient {_words(change)} from {over[1]} back to {over[0]}; " if change is not None and over else ""
    return f"healthy as it is: {figure}train it without norms first"


def _of_batch_norm(found: Findings) -> Iterator[str]:
    if found.growth is not None:
        layers = found.growth.layers
        measured = _measured(found.after, layers)
        if measured is None or measured >= SOUND_DECADES:  # else the theory did not hold here
            figures = f"{_fold(found.growth.decades)} predicted"
            figures += f", {_fold(measured)} measured" if measured is not None else ""
            yield (
                "batch norm itself makes the gradient grow in deep plain chains (Yang et al. 2019): from "
                f"{layers[-1]} back to {layers[0]} {figures}; shortcuts keep it down"
            )
    if found.samples is not None and found.samples < FEWEST_SAMPLES and _has_batch_norm(found.plan):
        yield (
            f"a batch of {found.samples}: of fewer than {FEWEST_SAMPLES} samples batch norm's statistics are noise "
            "(Wu & He 2018, table 2); if you train so, --norm group does without them"
        )


def _alternative(found: Findings, command: str) -> str | None:
    """What else heals a model that was sick; of one that norms made sick, the first sentence says to leave it."""
    if not is_sick(found.before):
        return None
    assert found.after is not None
    if found.redrawn is not None and found.redrawn.verdict == "healthy":
        change = found.redrawn.measured_decades
        figure = f", and the gradient {_words(change)}" if change is not None else ""
        as_well = " as well, at no cost in a step" if found.after.verdict == "healthy" else ""
        return f"weights drawn anew heal it{as_well} (measured: healthy{figure}): {command}"
    if found.after.verdict == "healthy":
        return None
    tried = f", and with weights drawn anew {found.redrawn.verdict}" if found.redrawn is not None else ""
    others = "other norms" if found.trained else "other remedies"
    return f"it is still {found.after.verdict}{tried}; {command} measures {others}"


def _has_batch_norm(plan: Sequence[Insertion]) -> bool:
    return any(insertion.norm.startswith("BatchNorm") for insertion in plan)


def _measured(profile: GradientProfile | None, layers: Sequence[str]) -> float | None:
    norms = {layer.name: layer.output_grad_norm for layer in profile.layers} if profile else {}
    return decades_between(norms.get(layers[0]), norms.get(layers[-1]))


def _words(decades: float) -> str:
    """-3.2 → "shrinks 1,600-fold"."""
    if math.isnan(decades):
        return "is not a number"
    return "keeps its size" if abs(decades) < _LEVEL else in_words(decades)


def _fold(decades: float) -> str:
    """1.6 → "40-fold"."""
    return in_words(decades).removeprefix("grows ")


def _auto(request: LoadRequest | None) -> str:
    """What to type, or to call, for `fix --auto` of the same model on the same inputs."""
    if request is None:
        return "gradcheck_tool.fix(model, inputs, auto=True)"
    options = [("--input", spec) for spec in request.input_specs]
    named = {"--inputs-from": request.inputs_from, "--weights": request.weights, "--device": request.device}
    options += [(name, value) for name, value in named.items() if value is not None]
    return shlex.join(["gradtool", "fix", "--auto", *(part for option in options for part in option), request.spec])
