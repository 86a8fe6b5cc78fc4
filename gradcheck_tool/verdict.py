"""The thresholds of the probe, where they come from, and the verdict with its reasons.

Scale-free: what is compared are ratios between layers and shares of units, so that multiplying the loss by a number
changes no verdict. Absolute size counts only where a norm is exactly zero or not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradcheck_tool.results import LayerGradient, Verdict

VANISHING_DECADES = -3.0
"""A gradient norm that shrinks a thousandfold towards the input: AUTOTRAINER's ratio (ICSE 2021), taken of the
gradients of the layers' outputs, since the weights' miss chains in which forward and backward shrink together."""

EXPLODING_DECADES = math.log10(70)
"""A gradient norm that grows 70-fold towards the input: AUTOTRAINER's ratio (ICSE 2021)."""

DEAD_FRACTION = 0.7
"""Share of a layer's units that are zero for every sample of the batch: AUTOTRAINER's share for dying ReLU."""

SATURATED_FRACTION = 0.5
"""Share of a layer's activations within 1 % of the function's range of its bound (for tanh and sigmoid the slope there
is under 4 % of its largest): more than half of the units, as SageMaker Debugger's rule for saturated activations has it."""

EXPLANATION = f"""\
The verdict of a probe is the first of these that holds.

non-finite   an output, the loss or a gradient is NaN or infinite.
no-gradient  autograd gives a trainable weight layer on a path to the output nothing at all. Zeros beneath a layer that
             starts at zero are a reason in the report, not a verdict.
dead         in some block at least {DEAD_FRACTION:.0%} of the units are zero for every sample of the batch.
             Source: AUTOTRAINER (ICSE 2021), dying ReLU.
vanishing    the gradient norm shrinks at least {10**-VANISHING_DECADES:,.0f}-fold over a chain of unnormalized blocks, on the
             way back to the input. Source: AUTOTRAINER.
exploding    it grows at least 70-fold. Source: AUTOTRAINER.
saturated    in some block more than {SATURATED_FRACTION:.0%} of the activations lie within 1 % of the function's range of its
             bound. Source: SageMaker Debugger.
healthy      none of these.
"""


def judge(
    layers: Sequence[LayerGradient],
    decades: float | None,
    over: tuple[str, str] | None,
    *,
    non_finite: str | None,
    without_gradient: Sequence[str],
    normalized: bool,
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on what was measured, and why, in sentences.

    Args:
        layers: the figures by weight layer, in the order in which they ran.
        decades: change of the gradient norm between the two layers `over`, towards the input.
        non_finite: where the first value that is not finite was seen, for people; None where all were finite.
        without_gradient: trainable weight layers on a path to the output to which autograd gave nothing.
        normalized: True where there is no unnormalized chain, so that `decades` spans the whole model.
    """
    found: list[tuple[Verdict, str]] = []
    if non_finite is not None:
        found.append(("non-finite", f"the first value that is not finite is {non_finite}"))
    if without_gradient:
        found.append(("no-gradient", f"no gradient reaches {_names(without_gradient)}: the graph is cut on the way"))
    dead = [layer for layer in layers if layer.dead_fraction is not None and layer.dead_fraction >= DEAD_FRACTION]
    if dead:
        worst = max(dead, key=lambda layer: layer.dead_fraction or 0.0)
        share = f"{worst.dead_fraction:.0%} of the units of {worst.name} are zero for every sample"
        found.append(("dead", share + (f", and {len(dead) - 1} more blocks are dead too" if len(dead) > 1 else "")))
    if decades is not None and over is not None and not math.isnan(decades):
        change = f"from {over[1]} back to {over[0]} the gradient norm {in_words(decades)}"
        if decades <= VANISHING_DECADES:
            found.append(("vanishing", change))
        elif decades >= EXPLODING_DECADES and not normalized:
            found.append(("exploding", change))
    saturated = [
        layer
        for layer in layers
        if layer.saturated_fraction is not None and layer.saturated_fraction > SATURATED_FRACTION
    ]
    if saturated:
        worst = max(saturated, key=lambda layer: layer.saturated_fraction or 0.0)
        found.append(("saturated", f"{worst.saturated_fraction:.0%} of the activations of {worst.name} are at their bound"))
    verdict: Verdict = found[0][0] if found else "healthy"
    return verdict, (*(reason for _, reason in found), *_zeros(layers))


def in_words(decades: float) -> str:
    """-3.2 → "shrinks 1,580-fold"."""
    if decades == -math.inf:
        return "falls to exactly zero"
    if decades == math.inf:
        return "is there though none came from above"
    factor = 10 ** abs(decades) if abs(decades) < 15 else None
    size = f"10^{abs(decades):.0f}" if factor is None else f"{factor:,.0f}" if factor >= 100 else f"{factor:.2g}"
    return f"{'shrinks' if decades < 0 else 'grows'} {size}-fold"


def _zeros(layers: Sequence[LayerGradient]) -> list[str]:
    """Layers whose gradient is zero at this step, as beneath a head that starts at zero: said, no verdict."""
    zeros = [layer.name for layer in layers if layer.output_grad_norm == 0.0]
    if not zeros:
        return []
    if len(zeros) == len(layers):
        return ["the gradient is exactly zero everywhere"]
    last = max(index for index, layer in enumerate(layers) if layer.output_grad_norm == 0.0)
    above = layers[last + 1] if last + 1 < len(layers) else None
    if above is not None and above.weight_norm == 0.0:
        return [f"{_names(zeros)}: zero gradient at this step, since the weight of {above.name} starts at zero"]
    return [f"{_names(zeros)}: the gradient is exactly zero"]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more layers"
