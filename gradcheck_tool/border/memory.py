"""Not enough memory → one line with the numbers, wherever in the work it ran out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import torch

from gradcheck_tool.errors import GradtoolError

if TYPE_CHECKING:
    from gradcheck_tool.target import Subject

_P = ParamSpec("_P")
_R = TypeVar("_R")

_TIMES = 3
"""What a probe needs, in parameters: these, a copy to put back, a byte for each parameter, the largest gradient. With
two layers of StarCoder 2, 1.28 GiB, 3.1 times as much at most, where two steps of Adam take 4.5 times."""


def tells_of_memory(work: Callable[Concatenate[Subject, _P], _R]) -> Callable[Concatenate[Subject, _P], _R]:
    """`work`, which raises a GradtoolError where memory runs out."""

    @functools.wraps(work)
    def told(subject: Subject, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return work(subject, *args, **kwargs)
        except Exception as error:
            if not is_lack_of_memory(error):
                raise
            model = subject.model
            size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) / 1e9
            raise GradtoolError(
                f"there is not enough memory for {type(model).__name__}: its parameters take {size:.2g} GB, and a "
                f"probe needs about {_TIMES} times as much, besides what a training step does",
                file=getattr(error, "file", None),
                line=getattr(error, "line", None),
                hint="take a smaller batch or fewer layers; an audit without a probe needs no more than the model",
            ) from error

    return told


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that memory ran out."""
    return any(map(_says_so, _with_causes(error)))


def _with_causes(error: BaseException) -> list[BaseException]:
    """`error` and what it was raised from, each once: one that is raised again `from` itself is its own cause."""
    found = [error]
    while (cause := found[-1].__cause__) is not None and cause not in found:
        found.append(cause)
    return found


def _says_so(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, GradtoolError)) and "DefaultCPUAllocator" in str(error)
