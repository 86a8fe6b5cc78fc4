"""Which blocks of a chain get a norm so that as few as possible do, and the gradient is predicted to stay within a
decade from one end of the chain to the other.

A norm sets the scale of what goes on, so the gradient changes by itself only between two norms. Norms are put where the
predicted change since the last one would exceed a budget, and the budget is lowered until the chain as a whole, which
norms make grow as well (Yang et al. 2019), stays within a decade, or as near to it as it can. In time linear in the
chain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gradcheck_tool.chains import Block
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.remedy.gains import SOUND_DECADES

BUDGETS = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.0)
"""Decades between two norms, in the order in which they are tried; 0 puts a norm behind every block."""
NEARLY = 0.1
"""Decades that a spread may exceed the smallest by, where no choice comes below one: what the theory is right to."""
_MARKS = 4
"""Places between two norms where the gradient is looked at, their ends included."""


@dataclass(frozen=True)
class Chosen:
    """The blocks of a chain that get a norm, and the predicted spread: decades between the largest and the smallest
    norm of the gradient along the chain."""

    blocks: frozenset[Block]
    spread: float


class _UnknownError(Exception):
    """The theory has nothing to say of a chain."""


class Spacing:
    """Norms of one kind in one chain.

    Args:
        forecaster: of the model.
        chain: the blocks.
        kind: of the norms, as `Forecaster.predict_with_norms` calls it.
        possible: the blocks that can have one.
    """

    def __init__(self, forecaster: Forecaster, chain: Sequence[Block], kind: str, possible: Collection[Block]) -> None:
        self._forecaster = forecaster
        self._chain = chain
        self._kind = kind
        self._possible = possible

    def fewest(self) -> Chosen | None:
        """The fewest norms with which the gradient spreads over less than a decade, none where it does so by itself; or
        where no choice does that, over hardly more than with the best of them. None where the theory does not hold."""
        try:
            plain = self._spread(())
            if plain < SOUND_DECADES:
                return Chosen(frozenset(), plain)
            steps = [abs(self._change(index, index + 1, ())) for index in range(len(self._chain) - 1)]
            choices = dict.fromkeys(self._places(steps, budget) for budget in BUDGETS)
            spreads = {places: self._spread(places) for places in choices}
        except _UnknownError:
            return None
        limit = max(SOUND_DECADES, min(spreads.values()) + NEARLY)
        places = min((places for places, spread in spreads.items() if spread < limit), key=len)
        return Chosen(frozenset(self._chain[place] for place in places), spreads[places])

    def _places(self, steps: Sequence[float], budget: float) -> tuple[int, ...]:
        """The blocks that get a norm: the last before the sum of the steps since the norm before exceeds the budget,
        or the next after it that can have one."""
        places, since = [], 0.0
        # what follows the last block is not known: it is taken to be like what precedes it
        for step, (index, block) in zip([*steps, steps[-1]], enumerate(self._chain), strict=True):
            since += step
            if since > budget and block in self._possible:
                places.append(index)
                since = 0.0  # the step over a norm is the norm's own
        return tuple(places)

    def _spread(self, places: Sequence[int]) -> float:
        """Decades between the largest and the smallest norm of the gradient along the chain."""
        levels = [0.0, *self._levels(places)]
        return max(levels) - min(levels)

    def _levels(self, places: Sequence[int]) -> Iterator[float]:
        """The gradient norm behind the first block over that behind later ones, in decades.

        What lies before the norm in front of a stretch is not known to it but for its scale, so each is looked at from
        one norm further up; what that norm itself is off by cancels in the difference.
        """
        ends = [0, *(place for place in places if place > 0), len(self._chain) - 1]
        level, start = 0.0, 0
        for before, after in pairwise(dict.fromkeys(ends)):
            base = self._change(start, before, places)
            for mark in _marks(before + 1, after):
                now = level + self._change(start, mark, places) - base
                yield now
            level, start = now, before

    def _change(self, first: int, last: int, places: Sequence[int]) -> float:
        if first == last:
            return 0.0
        part = self._chain[first : last + 1]
        if not places:
            predicted = self._forecaster.predict(part)
        else:
            behind = frozenset(self._chain[place] for place in places if first <= place <= last)
            predicted = self._forecaster.predict_with_norms(part, self._kind, behind=behind)
        if predicted.decades is None:
            raise _UnknownError(predicted.reason)
        return predicted.decades


def _marks(first: int, last: int) -> list[int]:
    """Both ends of a stretch and what lies evenly between them."""
    return sorted({first + (last - first) * number // (_MARKS - 1) for number in range(_MARKS)})
