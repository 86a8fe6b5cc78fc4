"""The thresholds of the probe, where they come from, and the verdict with its reasons.

Scale-free: what is compared are ratios between layers and shares of units, so that multiplying the loss by a number
changes no verdict. Absolute size counts only where a value is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck_tool.chances import (
    BEGUN,
    CHECKS,
    CLEARLY_BEGUN,
    HARM,
    IN_DOUBT,
    LITTLE,
    LITTLE_AFTER,
    MUCH,
    QUICKLY,
    TOO_LARGE,
    Chance,
)
from gradcheck_tool.results import LayerGradient, Learning, Verdict
from gradcheck_tool.wording import in_short, multiple

STEPS = 2
"""After one step the biases have moved, and what was too small to count against them shows; the second lets gradients
through that the first has opened (benchmarks/trainability.py)."""

VANISHING_DECADES = -4.2
"""Shrinkage of the gradient norm of the layers' outputs over a chain, at the start and still after the steps.

Of small nets that were really trained those that learn stay above -4.1, but for eight and for recurrent ones; most that
do not are below -5.7 (benchmarks/trainability.py). AUTOTRAINER (ICSE 2021) takes -3, of the weights' gradients, which
miss chains in which forward and backward shrink together."""

HOPELESS_DECADES = -6.2
"""Shrinkage from which on nothing acquits a net any more, unless it is over the steps of a recurrence, whose weights
get their gradient from the last ones: ten of twelve such nets learn. Of 96 other small nets with a chain that shrinks
more none learns. Of 26 with one between this and VANISHING_DECADES eight learn, all of which begin to clearly, as do
two of seven that do not, and six of eleven that do so seldom or badly (benchmarks/trainability.py)."""

SHRINKING_DECADES = -5.5
"""The same over the model, between the medians of the first and the last quarter of its layers: which layers are in a
quarter of a small net is chance. Those that learn stay above -5.1, those that do not are below -6. At fresh weights the
lowest of 47 public models that train well is at -1.4 (NFNet; benchmarks/verdicts.py)."""

COLLAPSED_SPREAD = 3e-5
"""‖h − mean over samples‖ / ‖h‖ of what goes into the last weight layer, after the steps. Of the small nets really
trained those that learn are above 6e-5, most of those that do not below 1e-6."""

EXPLODING_DECADES = 3.0
"""Growth of the gradient norm over a chain. Of the small nets really trained those that learn stay below 2.7, but for
two that begin with a loss of more than 1e9 and come down from it; those that do not learn are above 4.5."""

HOPELESS_GROWTH = 12.0
"""Growth over a chain from which on nothing acquits a net any more. Of eleven small nets that explode, or are
saturated, and learn their batch at once all the same, four of eight below learn when they are really trained, the other
four do so seldom or badly, as one of three above does; two do not (benchmarks/trainability.py)."""

EXPLODED_SCALE = 1e4
"""Root mean square of what goes into a layer, the first one apart: behind inputs of that size a net still learns, while
logits of it need thousands of steps to come down. Of the small nets really trained those that learn stay below 7e3, but
for three, those that do not are above 1.2e4."""

GROWING_DECADES = 2.5
"""Growth of ‖∂L/∂W‖·‖W‖, the weight's gradient times the weight, from the last weight layer of the model to the first:
what normalized models are judged by. The factors alone hang on the weights' size, which a normalization cancels.

At fresh weights and batches of 4 the largest among 47 public models that train well is 2.2 (ResNet-152; ResNet-101 1.5,
Inception v3 1.4, ResNet-50 0.8, transformers below 0), while plain Linear-BatchNorm-ReLU nets, whose gradients grow
1.21-fold with each block (Yang et al. 2019), are at 2.2 with 20 blocks, 3.3 with 30 and 4.2 with 40
(benchmarks/verdicts.py)."""

DEAD_FRACTION = 0.7
"""Share of a layer's units that are zero for every sample of the batch: AUTOTRAINER's share for dying ReLU."""

SATURATED_FRACTION = 0.9
"""Share of a layer's activations within 1 % of the function's range of its bound (for tanh and sigmoid the slope there
is under 4 % of its largest), in more than half of the blocks. Nets with three quarters at the bound in
their worst layer learn (benchmarks/trainability.py): SageMaker Debugger's half cries wolf there."""

EXPLANATION = f"""\
The verdict of a probe is the first of these that holds. The probe looks at the start, takes a few optimizer steps
on its batch, looks again, and puts everything back.

non-finite   an output, the loss or a gradient is NaN or infinite, at the start or after the steps.
no-gradient  autograd gives a trainable weight layer on a path to the output nothing at all. Zeros beneath a layer that
             starts at zero are a reason in the report, not a verdict.
dead         in some block at least {DEAD_FRACTION:.0%} of the units are zero for every sample of the batch, though
             what goes into the activation is not. Source: AUTOTRAINER (ICSE 2021), dying ReLU.
vanishing    at the start and after the steps the gradient norm shrinks on its way back to the input, over a chain of
             unnormalized blocks at least {10**-VANISHING_DECADES:,.0f}-fold, or over the model
             {10**-SHRINKING_DECADES:,.0f}-fold (the median of the first quarter of its layers against that of the
             last); or no weight has any gradient after the steps; or all samples are alike to the last layer then:
             what goes into it differs between them by at most {COLLAPSED_SPREAD:.0e} of its size.
exploding    the gradient norm grows at least {10**EXPLODING_DECADES:,.0f}-fold over a chain; or, from the last layer of
             the model to the first, the weight's gradient times the weight grows at least
             {10**GROWING_DECADES:.0f}-fold; or what goes into a layer other than the first has a root mean square of
             {EXPLODED_SCALE:,.0f} or more.
saturated    in most of the blocks at least {SATURATED_FRACTION:.0%} of the activations lie within 1 % of the function's
             range of its bound.
healthy      none of these.

With the user's own loss and targets the probe also trains on the batch for a moment with Adam, at a learning rate of
0.01 and of 0.001, from the same weights, and looks what the inputs explain of the loss, 1 − L(f) / L(mean of f over the
samples). What looks healthy is left at {CLEARLY_BEGUN:.0%}, mostly after four steps; it is vanishing all the same where
{LITTLE:.2%} are not reached in {LITTLE_AFTER} steps, or {BEGUN:.0%} in {CHECKS[-1]}. Some verdicts are but reasons
in the report, since the model learns: vanishing, where {CLEARLY_BEGUN:.0%} are reached, unless the gradient shrinks
more than {10**-HOPELESS_DECADES / 1e6:.1f} million-fold, and that not over the steps of a recurrence; exploding and
saturated, where {MUCH:.0%} are reached in {QUICKLY} steps, unless the gradient grows 10^{HOPELESS_GROWTH:.0f}-fold over
a chain. On images or sequences of white noise what looks healthy stays so: that noise is not learned is no fault of a
model.

The thresholds were chosen on nets that were really trained, and checked on others (benchmarks/trainability.py).
"""


@dataclass(frozen=True)
class Evidence:
    """What a pass forward and backward has shown.

    `change`: in decades, of the gradient norm between the two layers `over`, towards the input; `along_chain`: whether
    these are the ends of a chain, and not of the model. `shrinkage`: the same between the quarters of the model.
    `growth`: of the weight's gradient times the weight, between the two layers `growth_over`. `non_finite`: where the
    first value that is not finite was seen, for people. `without_gradient`: trainable weight layers on a path to the
    output to which autograd gave nothing. `zeros`: sentences on gradients that are exactly zero.
    """

    layers: Sequence[LayerGradient]
    change: float | None = None
    over: tuple[str, str] | None = None
    along_chain: bool = True
    shrinkage: float | None = None
    growth: float | None = None
    growth_over: tuple[str, str] | None = None
    non_finite: str | None = None
    without_gradient: Sequence[str] = ()
    zeros: Sequence[str] = ()
    over_steps: bool = False


def judge(
    evidence: Evidence, stepped: Evidence | None = None, steps: int = 0, learning: Learning | None = None
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on what was measured, and why, in sentences: the first names the verdict's own reason.

    Args:
        evidence: at the start.
        stepped: after `steps` optimizer steps, where some were taken.
        steps: how many.
        learning: what came of training on the batch, where that was tried: it decides where there is a `chance`.
    """
    found = _found(evidence, stepped, steps)
    verdict = _first(found)
    given = _chance(verdict, evidence)
    if learning is not None and given is not None:
        share = f"after {learning.steps} steps of Adam the inputs explain {learning.explained:.2%} of the loss"
        if verdict == "healthy" and -HARM < learning.explained < BEGUN:
            verdict = "vanishing"
            found.append((verdict, f"{share}: it does not begin to learn"))
        elif verdict != "healthy" and learning.explained >= given.enough:
            verdict = "healthy"
            found.append((verdict, f"yet {share}: it learns"))
    return verdict, (*(reason for _, reason in found), *evidence.zeros)


def chance(evidence: Evidence, stepped: Evidence | None = None) -> Chance | None:
    """How the model can still show whether it learns; None where nothing could change the verdict by figures alone."""
    return _chance(_first(_found(evidence, stepped, 0)), evidence)


def _chance(verdict: Verdict, evidence: Evidence) -> Chance | None:
    if verdict == "vanishing":
        shrinking = _shrinking(evidence)
        open_to = shrinking is None or evidence.over_steps or shrinking[0] > HOPELESS_DECADES
        return IN_DOUBT if open_to else None
    if verdict == "exploding" and evidence.along_chain and (evidence.change or 0.0) >= HOPELESS_GROWTH:
        return None
    return {"healthy": IN_DOUBT, "exploding": TOO_LARGE, "saturated": TOO_LARGE}.get(verdict)


def _first(found: Sequence[tuple[Verdict, str]]) -> Verdict:
    return found[0][0] if found else "healthy"


def _found(evidence: Evidence, stepped: Evidence | None, steps: int) -> list[tuple[Verdict, str]]:
    """The verdicts that the figures give, with their reasons; the first counts."""
    found: list[tuple[Verdict, str]] = []
    after = f"after {steps} step{'s' if steps > 1 else ''} "
    if evidence.non_finite is not None:
        found.append(("non-finite", f"the first value that is not finite is {evidence.non_finite}"))
    elif stepped is not None and stepped.non_finite is not None:
        found.append(("non-finite", f"{after}the first value that is not finite is {stepped.non_finite}"))
    if evidence.without_gradient:
        names = in_short(evidence.without_gradient, "more layers")
        found.append(("no-gradient", f"no gradient reaches {names}: the graph is cut on the way"))
    found += [("dead", reason) for reason in _dead(evidence.layers)]
    found += [("vanishing", reason) for reason in _vanished(evidence, stepped, after)]
    found += [("exploding", reason) for reason in _exploding(evidence)]
    found += [("saturated", reason) for reason in _saturated(evidence.layers)]
    return found


def _dead(layers: Sequence[LayerGradient]) -> list[str]:
    dead = [layer for layer in layers if layer.dead_fraction is not None and layer.dead_fraction >= DEAD_FRACTION]
    if not dead:
        return []
    worst = max(dead, key=lambda layer: layer.dead_fraction or 0.0)
    more = len(dead) - 1
    others = f", and {more} more block{'s are' if more > 1 else ' is'} dead too" if more else ""
    return [f"{worst.dead_fraction:.0%} of the units of {worst.name} are zero for every sample{others}"]


def _vanished(evidence: Evidence, stepped: Evidence | None, after: str) -> list[str]:
    """Why the gradient, or what tells the samples apart, is lost. What holds at the start alone does not count: a layer
    of zeros lets nothing through, a constant head sends next to nothing back, and biases of zero count only once they
    have moved."""
    shrinking = _shrinking(evidence)
    if shrinking is not None and (stepped is None or _shrinking(stepped) is not None):
        return [shrinking[1]]
    last = stepped or evidence
    norms = [layer.grad_norm for layer in last.layers if layer.grad_norm is not None]
    if stepped is not None and norms and not any(norms):
        return [f"{after}the gradient of every weight is exactly zero"]
    reason = _alike(last.layers)
    return [] if reason is None else [reason if stepped is None else after + reason]


def _shrinking(evidence: Evidence) -> tuple[float, str] | None:
    """By how many decades the gradient shrinks too far, and the sentence that says so."""
    change, over, whole = evidence.change, evidence.over, evidence.shrinkage
    if (
        change is not None
        and over is not None
        and change <= VANISHING_DECADES
        and (evidence.along_chain or change == -math.inf)
    ):
        return change, f"from {over[1]} back to {over[0]} the gradient norm {in_words(change)}"
    if whole is not None and whole <= SHRINKING_DECADES:
        return whole, f"from the last quarter of the layers back to the first the gradient norm {in_words(whole)}"
    return None


def _alike(layers: Sequence[LayerGradient]) -> str | None:
    """The first layer from which on the differences between samples are too small, where they still are at the last."""
    seen = [layer for layer in layers if layer.input_spread is not None]
    if len(seen) < 2 or (seen[-1].input_spread or 0.0) > COLLAPSED_SPREAD:
        return None
    first = len(seen) - 1
    while first and (seen[first - 1].input_spread or 0.0) <= COLLAPSED_SPREAD:
        first -= 1
    least = seen[-1].input_spread or 0.0
    share = f"by {least:.1g} of their values" if least else "in nothing"
    if not first:
        return (
            f"all samples look alike: the inputs differ {share} by the last layer, and little before; standardize them"
        )
    return f"all samples look alike to the layers from {seen[first].name} on: they differ {share}"


def _exploding(evidence: Evidence) -> list[str]:
    change, over, growth, between = evidence.change, evidence.over, evidence.growth, evidence.growth_over
    if change is not None and over is not None and change >= EXPLODING_DECADES and evidence.along_chain:
        return [f"from {over[1]} back to {over[0]} the gradient norm {in_words(change)}"]
    if growth is not None and between is not None and growth >= GROWING_DECADES:
        return [f"from {between[1]} back to {between[0]} the weight's gradient times the weight {in_words(growth)}"]
    large = [layer for layer in evidence.layers[1:] if (layer.input_scale or 0.0) >= EXPLODED_SCALE]
    if large:
        return [f"what goes into {large[0].name} has a root mean square of {large[0].input_scale:.2g}"]
    return []


def _saturated(layers: Sequence[LayerGradient]) -> list[str]:
    shares = [(layer.saturated_fraction, layer.name) for layer in layers if layer.saturated_fraction is not None]
    full = [pair for pair in shares if pair[0] >= SATURATED_FRACTION]
    if 2 * len(full) <= len(shares):
        return []
    worst, name = max(full)
    return [f"{worst:.0%} of the activations of {name} are at their bound"]


def in_words(decades: float) -> str:
    """-3.2 → "shrinks 1,600-fold", -12.3 → "shrinks 2e12-fold"."""
    if decades == -math.inf:
        return "falls to exactly zero"
    if decades == math.inf:
        return "grows beyond all numbers"
    return f"{'shrinks' if decades < 0 else 'grows'} {multiple(decades, 6)}-fold"
