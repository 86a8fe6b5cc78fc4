"""What a model has to show when it is trained on its own batch for a moment, and for how long it may: the thresholds of
what its inputs explain of the loss, 1 − L(f) / L(mean of f over the samples). probing/learning.py measures it. The
counts are of 1,792 nets of benchmarks/trainability.py, all but the last two groups; fragile ones, which learn with one
optimizer and not with another, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CHECKS = (4, 8, 16, 32, 64, 96, 128, 192)
"""The steps after which it is looked at. Of 1,155 small nets that learn when they are really trained, and show it here,
435 have done so after four, 669 after eight, 887 after 16 and 1,081 after 64."""

ENOUGH = 0.4
"""What its figures say vanishes, and explains so much of the loss at a check, learns: 45 of 46 such nets that learn do,
and one of 210 that do not."""

FITTED = 0.5
"""The same of what explodes or is saturated: 26 of 30 such nets that learn do, and three of 36 that do not."""

BEGUN = 0.1
"""What looks sound, and explains `ENOUGH` in the end or at a check, is so: 209 of 211 such nets that learn, and have
not clearly begun before, do; six of 63 that do not. But nets that learn some tasks explain little of their loss for
long: a variational autoencoder of digits 11 % after 128 steps; and noise in labels can only be learned by heart. So
where a linear model explains less than twice `ENOUGH` of the batch half of that suffices, and this where it explains
little, or the task is another."""

CLEARLY_BEGUN, EARLY = 0.15, 16
"""What looks sound and explains as much at one of the checks up to here is looked at no longer: of 876 such nets 871
learn, and five do not."""

HELD_OUT = 0.12
"""The same of samples that it is not trained on, at the best scale of its outputs: the other four do, and none of the
33. With 24 of 64 samples held out in four ways, and no other way to show it, 19 of 20 nets that learn do, and two of 29
that do not."""

LITTLE, LITTLE_AFTER = 0.01, 64
"""What its figures condemn, and has not explained as much at any check up to here, is given up: of 76 such nets that
learn one shows so little."""

HARM = 0.05
"""Where the outputs do so much worse than their mean to the end, they are too large as yet, or the loss asks for no
difference between samples, and nothing follows from it."""

CONVINCING, SOON, AT_ONCE = 0.2, 32, 8
"""A remedy with which a net shows by `LITTLE_AFTER` that it learns, and explains as much by `SOON`, or begins clearly
`AT_ONCE`, or explains `ENOUGH`, at one learning rate, ends the search of `fix --auto`. Of 79 small nets with which the
first remedy begins after 16 or 32 steps five do not learn with it: these explain 0.14 to 0.18 then. Of four that do
explain as much and need 96 steps or more for `ENOUGH` two do not. What comes of it: benchmarks/trainability.py
auto."""


@dataclass(frozen=True)
class Chance:
    """How a model can show whether it learns: in how many `steps` of Adam, at each learning rate, its inputs have to
    explain how much of the loss, and how much at the checks up to `EARLY`.

    Attributes:
        patient: whether one that shows `LITTLE` is given all the steps, after both rates were tried for a moment.
        begun: how much is enough in the end where no linear model shows that more could be learned.
        holds_out: whether what counts are samples that it is not trained on.
        then: what it may show besides.
    """

    steps: int
    enough: float
    early: float
    patient: bool = False
    begun: float | None = None
    holds_out: bool = False
    then: Chance | None = None


SOUND = Chance(192, ENOUGH, CLEARLY_BEGUN, patient=True, begun=BEGUN)
"""Of what looks healthy."""

NOISY = replace(SOUND, begun=ENOUGH)
"""The same with dropout, whose noise is left out when it is looked at."""

SHRINKING = Chance(128, ENOUGH, ENOUGH)
"""Of gradients that shrink, and of samples that look alike or gradients that are gone after the steps."""

GROWING = Chance(64, FITTED, FITTED, then=Chance(64, HELD_OUT, HELD_OUT, holds_out=True))
"""Of what explodes or is saturated: such nets fit any samples in the end, whether they learn or not."""
