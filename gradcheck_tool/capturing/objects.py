"""Objects that hold tensors and that torch.fx has no form for: a cache of keys and values, say.

What a graph keeps of one is a template, with a slot in the place of each tensor; each run fills a copy of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_NOT_DATA = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, nn.Module)


@dataclass(eq=False)
class Slot:
    """Stands where a tensor was."""


def tensors_within(value: Any) -> Iterator[Tensor]:
    """Every tensor that is reachable through containers and the attributes of objects; modules are not entered."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        one = pending.pop()
        if id(one) in seen or isinstance(one, _NOT_DATA):
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
            continue
        if isinstance(one, dict):
            pending.extend(one.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            pending.extend(one)
        slots = [name for cls in type(one).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(one, name)]
        pending.extend(getattr(one, "__dict__", {}).values())
        pending.extend(getattr(one, name) for name in slots)


@dataclass(frozen=True)
class Template:
    """An object with a slot in the place of each of its tensors, and the slots in order."""

    emptied: Any
    slots: tuple[Slot, ...]


def emptied(value: Any, tensors: Sequence[Tensor]) -> Template:
    """A copy of `value` without its `tensors`."""
    slots = tuple(Slot() for _ in tensors)
    memo: dict[int, Any] = {id(tensor): slot for tensor, slot in zip(tensors, slots, strict=True)}
    return Template(copy.deepcopy(value, memo), slots)


def filled(template: Template, tensors: Sequence[Tensor]) -> Any:
    """The object again, with `tensors` in its slots. Generated code calls it."""
    memo: dict[int, Any] = {id(slot): tensor for slot, tensor in zip(template.slots, tensors, strict=True)}
    return copy.deepcopy(template.emptied, memo)
