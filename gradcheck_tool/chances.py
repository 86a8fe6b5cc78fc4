"""What a model has to show when it is trained on one batch for a moment, and for how long it may: the thresholds of
what its inputs explain of the loss, 1 − L(f) / L(mean of f over the samples). probing/learning.py measures it. The
counts are of the 896 nets of benchmarks/trainability.py.
"""

from __future__ import annotations

from dataclasses import dataclass

CHECKS = (4, 8, 16, 32, 64)
"""The steps after which it is looked at. Of 528 small nets that learn when they are really trained, and show it here,
281 have done so after four, 379 after eight and 453 after 16."""

LITTLE, LITTLE_AFTER = 0.0025, 16
"""What explains less of the loss at each of the checks up to here is given up. Of 33 such nets, sound by their figures,
16 do not learn, 13 do so seldom or badly, and four learn."""

HARM = 0.05
"""Where the outputs do so much worse than their mean, they are too large as yet, or the loss asks for no difference
between samples, and nothing follows from it."""

BEGUN = 0.03
"""What explains less after the last check has not begun to learn. Of eleven such nets, sound by their figures, seven do
not learn and four do so seldom or badly; of the ten above, up to CLEARLY_BEGUN, three and three."""

CLEARLY_BEGUN = 0.15
"""What explains as much at one of the checks has begun, and is looked at no longer: of 587 such nets, sound by their
figures, 528 learn, 52 do so seldom or badly, and seven do not."""

MUCH, QUICKLY = 0.4, 8
"""A net that explains so much after 4 or 8 steps learns, however large its gradients or its numbers are: of eight such
nets, exploding or saturated by their figures, four learn and four do so seldom or badly; of the 29 others two learn and
17 do not. Gradients that grow beyond HOPELESS_GROWTH (verdict.py) are not among them."""

SOON = 32
"""A remedy with which a net has begun clearly by then, at one learning rate, ends the search of `fix --auto`. Of 138
candidates for 54 nets that began so soon 108 learned, of nine that began later four, and of eight against which a
figure stood four. Two thirds of these nets were chosen because what was taken first had not healed them
(benchmarks/trainability.py convincing)."""


@dataclass(frozen=True)
class Chance:
    """How a model can still show whether it learns, where its figures leave that open: for how many `steps` of Adam it
    is trained at most, at each of how many learning `rates`, and what share of the loss is `enough`."""

    enough: float
    steps: int
    rates: int


IN_DOUBT = Chance(CLEARLY_BEGUN, CHECKS[-1], rates=2)
"""Of what looks healthy, of gradients that shrink as those of some nets do that learn, and of samples that look alike
or gradients that are gone after the steps: of 34 such nets two learn, which explain a half and more after 32 steps; the
others explain 0.04 % at most."""

TOO_LARGE = Chance(MUCH, QUICKLY, rates=1)
"""Of what explodes or is saturated: some such nets learn at once."""
