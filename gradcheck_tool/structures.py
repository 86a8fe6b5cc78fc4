"""Values with tensors in them: what models take and return. Tuples, lists, mappings, named tuples and dataclasses are
looked into; anything else is a leaf. Nothing is registered anywhere."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

Part = tuple[Callable[[Any, Any], Any], Any, Any]
"""(access, key, part): `access(value, key)` is the part."""


def parts(value: Any) -> Iterable[Part]:
    """The parts of a structure, and how to reach each; nothing for a leaf."""
    if isinstance(value, (str, bytes, Tensor)):
        return ()
    if isinstance(value, (tuple, list)):
        return ((operator.getitem, index, part) for index, part in enumerate(value))
    if isinstance(value, Mapping):
        return ((operator.getitem, key, part) for key, part in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return ((getattr, entry.name, getattr(value, entry.name)) for entry in fields(value))
    return ()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in a structure, in order."""
    if isinstance(value, Tensor):
        yield value
    for _, _, part in parts(value):
        yield from tensors_in(part)


def holds_tensor(value: Any) -> bool:
    """Whether there is any tensor in a structure."""
    if isinstance(value, Tensor):
        return True
    return next(tensors_in(value), None) is not None


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a structure with `change(tensor)` in the place of each tensor; leaves of other kinds are shared."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        changed = [map_tensors(part, change) for part in value]
        return type(value)(*changed) if hasattr(value, "_fields") else type(value)(changed)
    if isinstance(value, Mapping):
        if type(value) is dict:
            return {key: map_tensors(part, change) for key, part in value.items()}
        twin: Any = copy.copy(value)
        for key, part in value.items():
            twin[key] = map_tensors(part, change)
        return twin
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{e.name: map_tensors(getattr(value, e.name), change) for e in fields(value) if e.init})
    return value
