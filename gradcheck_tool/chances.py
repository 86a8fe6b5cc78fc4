"""What a model has to show when it is trained on its own batch for a moment, and for how long it may: the thresholds of
what its inputs explain of the loss, 1 − L(f) / L(mean of f over the samples). probing/learning.py measures it. The
counts are of the 1,152 nets of benchmarks/trainability.py on which they were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CHECKS = (4, 8, 16, 32, 64, 96, 128)
"""The steps after which it is looked at. Of 725 small nets that learn when they are really trained, and show it here,
268 have done so after four, 425 after eight and 563 after 16."""

ENOUGH = 0.5
"""What its figures condemn, and explains so much of the loss at a check, learns: of 39 such nets with gradients that
shrink 25 learn, 14 do so seldom or badly; of the 172 others two learn, 29 do so seldom or badly, and 141 do not."""

BEGUN = 0.1
"""The same of what looks sound: of 201 such nets 130 learn, 66 do so seldom or badly, five do not; of the 38 others
four learn, 13 do so seldom or badly, and 21 do not. Four of the five would be told from 0.2 on. But nets that learn
some tasks explain little of their loss for long: a variational autoencoder of digits 11 % after 128 steps."""

WITH_NOISE = 0.4
"""The same of what looks sound and has dropout, whose noise is left out when it is looked at, and slows the training:
of 28 such nets that learn the three that have not clearly begun early explain 0.44 and more; of 15 that do not learn
four explain 0.28 to 0.36, the others nothing."""

CLEARLY_BEGUN, EARLY = 0.15, 16
"""What looks sound and explains as much at one of the checks up to here is looked at no longer: of 577 such nets 555
learn, 19 do so seldom or badly, and three do not."""

LITTLE, LITTLE_AFTER = 0.01, 64
"""What its figures condemn, and has not explained as much at any check up to here, is given up: of 27 such nets that
learn one shows so little."""

HARM = 0.05
"""Where the outputs do so much worse than their mean to the end, they are too large as yet, or the loss asks for no
difference between samples, and nothing follows from it."""

SOON = 32
"""A remedy with which a net shows by then that it learns, at one learning rate, ends the search of `fix --auto`: what
comes of it is in benchmarks/trainability.py auto."""


@dataclass(frozen=True)
class Chance:
    """How a model can show whether it learns: in how many `steps` of Adam, at each learning rate, its inputs have to
    explain how much of the loss, and how much at the checks up to `EARLY`. `patient`: whether one that shows `LITTLE`
    is given all of them, after both rates were tried for a moment."""

    steps: int
    enough: float
    early: float
    patient: bool = False


SOUND = Chance(128, BEGUN, CLEARLY_BEGUN, patient=True)
"""Of what looks healthy."""

NOISY = replace(SOUND, enough=WITH_NOISE)
"""The same with dropout."""

SHRINKING = Chance(128, ENOUGH, ENOUGH)
"""Of gradients that shrink, and of samples that look alike or gradients that are gone after the steps."""

GROWING = Chance(64, ENOUGH, ENOUGH)
"""Of what explodes or is saturated: such nets fit their batch in the end, whether they learn or not. Of 21 that show it
by then twelve learn, eight do so seldom or badly, one does not; of the 36 others one learns, eleven do so seldom or
badly, and 24 do not. At 96 steps three more that do not would pass for healthy, and no more that do."""
