"""Caches that no module holds: of a function, of a file, of a class. What a run on meta left there is taken out."""

from __future__ import annotations

import functools
import gc
from collections.abc import Sequence

from torch import Tensor


def forgotten_outside(tensors: Sequence[Tensor]) -> bool:
    """Takes tensors without data out of the containers and the caches of functions that still hold them, and says
    whether there were any."""
    if not tensors:
        return False
    wanted = {id(tensor) for tensor in tensors}
    found = False
    for holder in gc.get_referrers(*tensors):
        if holder is tensors:
            continue
        if isinstance(holder, dict):
            for key in [key for key, value in holder.items() if id(value) in wanted]:
                del holder[key]
                found = True
        elif type(holder).__name__ == "_lru_list_elem" or type(holder) is functools._lru_cache_wrapper:
            found = True
            for cached in gc.get_objects():
                if type(cached) is functools._lru_cache_wrapper and _holds(cached, wanted):
                    cached.cache_clear()
    return found


def _holds(cached: object, wanted: set[int]) -> bool:
    seen = gc.get_referents(cached)
    return any(id(one) in wanted for part in seen for one in (part, *gc.get_referents(part), *_deep(part)))


def _deep(part: object) -> list[object]:
    if type(part) is not dict:
        return []
    return [deep for value in part.values() for deep in gc.get_referents(value)]
