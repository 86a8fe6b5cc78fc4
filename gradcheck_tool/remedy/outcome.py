"""Whether a fix was worth it: the profile before against the profile after, over the same layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradcheck_tool.results import GradientProfile


def improved(before: GradientProfile | None, after: GradientProfile | None) -> bool | None:
    """Whether a fix was worth it: the verdict has become healthy, or the change of the gradient norm has fallen by a
    factor of 10 or more without another bad verdict taking the place of the old. None where nothing was measured."""
    if before is None or after is None:
        return None
    if after.verdict == "healthy" and before.verdict != "healthy":
        return True
    if before.measured_decades is None or after.measured_decades is None:
        return False
    gained = abs(before.measured_decades) - abs(after.measured_decades)
    return not math.isnan(gained) and gained >= 1.0 and after.verdict in ("healthy", before.verdict)


def reached(chains: Sequence[Sequence[str]], profile: GradientProfile | None) -> list[list[str]]:
    """The layers of each chain that a gradient reached: norms behind frozen layers would let it reach more of them, and
    before and after could not be compared."""
    names = {layer.name for layer in profile.layers if layer.output_grad_norm is not None} if profile else set()
    return [[name for name in chain if name in names] for chain in chains]
