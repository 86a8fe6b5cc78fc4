"""Recurrences whose gradient grows from step to step, since the weights of their states are too large: which of their
layers are to be drawn anew, and why.

One matrix is applied at every step, so what it does to a gradient is raised to the power of their number. An orthogonal
one keeps the length of every vector, and no activation of slope 1 or less makes it grow (Le, Jaitly and Hinton 2015, "A
simple way to initialize recurrent networks of rectified linear units"; Henaff, Szlam and LeCun 2016, "Recurrent
orthogonal networks and long-memory tasks").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.remedy.gains import SOUND_DECADES, SOUND_RANGE, Gain
from gradcheck_tool.theory import Weights

STEPPED_GAIN = 1.0
"""σ_w of what is drawn anew. ReLU's critical √2 holds for weights that are new at every step; of 32 steps with one
orthogonal matrix of that gain nothing is learned, with gain 1 a net learns (benchmarks/remedies.py "32 steps")."""

ONE_SIDED = 2.0
"""By how much more of a gradient's squared norm an activation may let through than where its inputs are as often
negative as positive: a matrix that is applied over and over drives states to one side, where ReLU lets all of it
through, instead of half."""


def faults_of_steps(
    structure: Structure, critical: Mapping[Call, Gain | str], weights_of: Callable[[Call], Weights | None]
) -> dict[str, str]:
    """The layers that are to be drawn anew, and why: those that carry a state from step to step and let the gradient
    grow on its way back, and with them those of large weights that give the steps their inputs.

    Args:
        structure: of the model.
        critical: the gain at which each call would keep the gradient.
        weights_of: the statistics of a call's weight; None where they cannot be read.
    """
    calls: dict[str, list[Call]] = {}
    for call in structure.calls:
        if call.layer in structure.recurrent:
            calls.setdefault(call.layer, []).append(call)
    squared = {layer: read.gain_squared for layer, steps in calls.items() if (read := weights_of(steps[0]))}
    found: dict[str, str] = {}
    for layer, now in squared.items():
        steps, gain = calls[layer], critical.get(calls[layer][-1])
        if not isinstance(gain, Gain) or not now or not _carry_state(steps, structure):
            continue
        if (len(steps) - 1) / 2 * math.log10(ONE_SIDED * now / gain.squared) >= SOUND_DECADES:
            found[layer] = f"its gain was {math.sqrt(now):.3g}, at each of {len(steps)} steps"
    if found:
        inputs = {layer: now for layer, now in squared.items() if layer not in found and now > SOUND_RANGE[1]}
        found |= {layer: f"its gain was {math.sqrt(now):.3g}" for layer, now in inputs.items()}
    return found


def _carry_state(steps: Sequence[Call], structure: Structure) -> bool:
    """Whether what a layer gives at one of its steps comes back to it at the next."""
    if len(steps) < 2:
        return False
    first, second = steps[-2].node, steps[-1].node
    pending, seen = [second], {second}
    while pending:
        for source in structure.flow.sources[pending.pop()]:
            if source.node is first:
                return True
            if source.node not in seen:
                seen.add(source.node)
                pending.append(source.node)
    return False
