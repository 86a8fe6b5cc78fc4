"""What a model holds: every container, tensor and generator of random numbers that is reachable from its modules."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Container = dict[Any, Any] | list[Any] | set[Any] | deque[Any] | tuple[Any, ...]
_CONTAINERS = (dict, list, set, deque, tuple)
_GENERATORS = (random.Random, torch.Generator, np.random.RandomState, np.random.Generator)


class _Kind(Enum):
    ATOM = auto()
    CONTAINER = auto()
    MODULE = auto()
    TENSOR = auto()
    GENERATOR = auto()


def _kind(cls: type) -> _Kind:
    for classes, kind in (
        (_CONTAINERS, _Kind.CONTAINER),
        (nn.Module, _Kind.MODULE),
        (Tensor, _Kind.TENSOR),
        (_GENERATORS, _Kind.GENERATOR),
    ):
        if issubclass(cls, classes):
            return kind
    return _Kind.ATOM


@dataclass(frozen=True)
class Holdings:
    """What `held_by` found: containers, of them those that hold a tensor themselves, and generators, each once."""

    containers: list[Container]
    holding_tensors: list[Container]
    generators: list[Any]

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor held, as often as it is held."""
        for container in self.holding_tensors:
            for value in container.values() if isinstance(container, dict) else container:
                if isinstance(value, Tensor):
                    yield value


def held_by(model: nn.Module) -> Holdings:
    """Walks the `__dict__` of every module of `model` and every built-in container reachable from them, with those of
    modules that stand in plain lists, which torch does not know of. Linear in what there is; a value costs a look at
    its type, which is why nothing else is asked of it."""
    containers: list[Container] = [module.__dict__ for module in model.modules()]
    seen = {id(container) for container in containers}
    kinds: dict[type, _Kind] = {}
    holding_tensors: list[Container] = []
    generators: dict[int, Any] = {}
    atom, tensor = _Kind.ATOM, _Kind.TENSOR
    for container in containers:  # grows while it is walked
        if not container:
            continue
        holds = False
        for value in container.values() if isinstance(container, dict) else container:
            cls = type(value)
            kind = kinds.get(cls)
            if kind is None:
                kind = kinds[cls] = _kind(cls)
            if kind is atom:
                continue
            if kind is tensor:
                holds = True
            elif kind is _Kind.GENERATOR:
                generators[id(value)] = value
            else:
                inner = value.__dict__ if kind is _Kind.MODULE else value
                if id(inner) not in seen:
                    seen.add(id(inner))
                    containers.append(inner)
        if holds:
            holding_tensors.append(container)
    return Holdings(containers, holding_tensors, list(generators.values()))
