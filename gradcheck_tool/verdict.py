"""The verdict on what a probe has measured, with its reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck_tool.chances import GROWING, HARM, NOISY, SHRINKING, SOUND, Chance
from gradcheck_tool.results import Divergence, LayerGradient, Learning, Verdict
from gradcheck_tool.thresholds import (
    COLLAPSED_SPREAD,
    DEAD_FRACTION,
    EXPLODED_SCALE,
    EXPLODING_DECADES,
    GROWING_DECADES,
    SATURATED_FRACTION,
    SHRINKING_DECADES,
    VANISHING_DECADES,
)
from gradcheck_tool.wording import in_short, multiple


@dataclass(frozen=True)
class Evidence:
    """What a pass forward and backward has shown.

    `change`: in decades, of the gradient norm between the two layers `over`, towards the input; `along_chain`: whether
    these are the ends of a chain, and not of the model. `shrinkage`: the same between the quarters of the model.
    `growth`: of the weight's gradient times the weight, between the two layers `growth_over`. `non_finite`: where the
    first value that is not finite was seen, for people. `without_gradient`: trainable weight layers on a path to the
    output to which autograd gave nothing. `zeros`: sentences on gradients that are exactly zero. `noisy`: whether
    there is dropout.
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
    noisy: bool = False


_CHANCES: dict[Verdict, Chance] = {
    "healthy": SOUND,
    "vanishing": SHRINKING,
    "exploding": GROWING,
    "saturated": GROWING,
}
"""By the verdict that the figures give; the others are not open to anything."""


def judge(
    evidence: Evidence, stepped: Evidence | None = None, steps: int = 0, learning: Learning | None = None
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on what was measured, and why, in sentences: the first names the verdict's own reason.

    Args:
        evidence: at the start.
        stepped: after `steps` optimizer steps, where some were taken.
        steps: how many.
        learning: what came of training on the batch, where that was tried as there was a `chance`: it decides.
    """
    found = _found(evidence, stepped, steps)
    verdict = _first(found)
    if learning is not None and verdict in _CHANCES:
        share = f"after {learning.steps} steps of Adam the inputs explain {learning.explained:.2%} of the loss"
        share += " of samples held out" if learning.held_out else ""
        if verdict != "healthy" and learning.learns:
            verdict = "healthy"
            found.append((verdict, f"yet {share}: it learns"))
        elif verdict == "healthy" and not learning.learns and learning.diverged is not None:
            verdict = "exploding"
            found.append((verdict, _diverging(learning.diverged)))
        elif verdict == "healthy" and not learning.learns and learning.explained > -HARM:
            verdict = "vanishing"
            found.append((verdict, f"{share}{_beside(learning.linear)}: it hardly learns its own batch"))
    return verdict, (*(reason for _, reason in found), *evidence.zeros)


def chance(evidence: Evidence, stepped: Evidence | None = None) -> Chance | None:
    """How the model can show whether it learns; None where nothing could change the verdict by figures alone."""
    given = _CHANCES.get(_first(_found(evidence, stepped, 0)))
    return NOISY if given is SOUND and evidence.noisy else given


def _beside(linear: float | None) -> str:
    return "" if linear is None else f", a linear model {linear:.0%}"


def _diverging(diverged: Divergence) -> str:
    after = f"{diverged.steps} step{'s' if diverged.steps > 1 else ''}"
    return f"after {after} of Adam at a learning rate of {diverged.rate:g} the loss has diverged"


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
