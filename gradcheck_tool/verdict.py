"""The thresholds of the probe, where they come from, and the verdict with its reasons.

Scale-free: what is compared are ratios between layers and shares of units, so that multiplying the loss by a number
changes no verdict. Absolute size counts only where a value is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck_tool.results import LayerGradient, Verdict
from gradcheck_tool.wording import in_short, multiple

VANISHING_DECADES = -3.0
"""A gradient norm that shrinks a thousandfold towards the input: AUTOTRAINER's ratio (ICSE 2021), taken of the
gradients of the layers' outputs, since the weights' miss chains in which forward and backward shrink together.

Over the whole model it is taken between the medians of the first and the last quarter of the layers. There, at fresh
weights, the lowest of 47 public models of torchvision, timm and transformers that train well are at -1.4 (NFNet) and
-0.6 (PoolFormer), while 20 linear layers without any activation are at -3.8 (benchmarks/verdicts.py)."""

EXPLODING_DECADES = math.log10(70)
"""A gradient norm that grows 70-fold towards the input: AUTOTRAINER's ratio (ICSE 2021)."""

GROWING_DECADES = 2.5
"""Growth of ‖∂L/∂W‖·‖W‖, the weight's gradient times the weight, from the last weight layer of the model to the first:
what normalized models are judged by. The factors alone hang on the weights' size, which a normalization cancels.

At fresh weights and batches of 4 the largest among 47 public models that train well is 2.2 (ResNet-152; ResNet-101 1.5,
Inception v3 1.4, ResNet-50 0.8, transformers below 0), while plain Linear-BatchNorm-ReLU nets, whose gradients grow
1.21-fold with each block (Yang et al. 2019), are at 2.2 with 20 blocks, 3.3 with 30 and 4.2 with 40
(benchmarks/verdicts.py)."""

DEAD_FRACTION = 0.7
"""Share of a layer's units that are zero for every sample of the batch: AUTOTRAINER's share for dying ReLU."""

SATURATED_FRACTION = 0.5
"""Share of a layer's activations within 1 % of the function's range of its bound (for tanh and sigmoid the slope there
is under 4 % of its largest): more than half of the units, as in SageMaker Debugger's rule for saturated activations."""

EXPLANATION = f"""\
The verdict of a probe is the first of these that holds.

non-finite   an output, the loss or a gradient is NaN or infinite.
no-gradient  autograd gives a trainable weight layer on a path to the output nothing at all. Zeros beneath a layer that
             starts at zero are a reason in the report, not a verdict.
dead         in some block at least {DEAD_FRACTION:.0%} of the units are zero for every sample of the batch, though
             what goes into the activation is not. Source: AUTOTRAINER (ICSE 2021), dying ReLU.
vanishing    on the way back to the input the gradient norm shrinks at least {10**-VANISHING_DECADES:,.0f}-fold over
             a chain of unnormalized blocks, or over the model (the median of the first quarter of its layers against
             that of the last). Source: AUTOTRAINER.
exploding    it grows at least 70-fold over a chain (source: AUTOTRAINER); or, from the last layer of the model to
             the first, the weight's gradient times the weight grows at least {10**GROWING_DECADES:.0f}-fold. Measured:
             public models that train well, up to ResNet-152, stay below 150-fold; 40 blocks of Linear, batch norm
             and ReLU reach 15,000-fold: without shortcuts, batch norm makes deep nets explode (Yang et al. 2019).
saturated    in some block more than {SATURATED_FRACTION:.0%} of the activations lie within 1 % of the function's range
             of its bound. Source: SageMaker Debugger.
healthy      none of these.
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


def judge(evidence: Evidence) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on what was measured, and why, in sentences: the first names the verdict's own reason."""
    found: list[tuple[Verdict, str]] = []
    if evidence.non_finite is not None:
        found.append(("non-finite", f"the first value that is not finite is {evidence.non_finite}"))
    if evidence.without_gradient:
        names = in_short(evidence.without_gradient, "more layers")
        found.append(("no-gradient", f"no gradient reaches {names}: the graph is cut on the way"))
    found += [("dead", reason) for reason in _dead(evidence.layers)]
    found += [("vanishing", reason) for reason in _vanishing(evidence)]
    found += [("exploding", reason) for reason in _exploding(evidence)]
    found += [("saturated", reason) for reason in _saturated(evidence.layers)]
    verdict: Verdict = found[0][0] if found else "healthy"
    return verdict, (*(reason for _, reason in found), *evidence.zeros)


def _dead(layers: Sequence[LayerGradient]) -> list[str]:
    dead = [layer for layer in layers if layer.dead_fraction is not None and layer.dead_fraction >= DEAD_FRACTION]
    if not dead:
        return []
    worst = max(dead, key=lambda layer: layer.dead_fraction or 0.0)
    more = len(dead) - 1
    others = f", and {more} more block{'s are' if more > 1 else ' is'} dead too" if more else ""
    return [f"{worst.dead_fraction:.0%} of the units of {worst.name} are zero for every sample{others}"]


def _vanishing(evidence: Evidence) -> list[str]:
    change, over, whole = evidence.change, evidence.over, evidence.shrinkage
    if (
        change is not None
        and over is not None
        and change <= VANISHING_DECADES
        and (evidence.along_chain or change == -math.inf)
    ):
        return [f"from {over[1]} back to {over[0]} the gradient norm {in_words(change)}"]
    if whole is not None and whole <= VANISHING_DECADES:
        return [f"from the last quarter of the layers back to the first the gradient norm {in_words(whole)}"]
    return []


def _exploding(evidence: Evidence) -> list[str]:
    change, over, growth, between = evidence.change, evidence.over, evidence.growth, evidence.growth_over
    if change is not None and over is not None and change >= EXPLODING_DECADES and evidence.along_chain:
        return [f"from {over[1]} back to {over[0]} the gradient norm {in_words(change)}"]
    if growth is not None and between is not None and growth >= GROWING_DECADES:
        return [f"from {between[1]} back to {between[0]} the weight's gradient times the weight {in_words(growth)}"]
    return []


def _saturated(layers: Sequence[LayerGradient]) -> list[str]:
    shares = [(layer.saturated_fraction, layer.name) for layer in layers if layer.saturated_fraction is not None]
    worst, name = max(shares, default=(0.0, ""))
    return [f"{worst:.0%} of the activations of {name} are at their bound"] if worst > SATURATED_FRACTION else []


def in_words(decades: float) -> str:
    """-3.2 → "shrinks 1,600-fold", -12.3 → "shrinks 2e12-fold"."""
    if decades == -math.inf:
        return "falls to exactly zero"
    if decades == math.inf:
        return "grows beyond all numbers"
    return f"{'shrinks' if decades < 0 else 'grows'} {multiple(decades, 6)}-fold"
