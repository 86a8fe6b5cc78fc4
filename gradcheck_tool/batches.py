"""The batches that a model is measured on: the user's own, read one after another, or drawn anew from seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradcheck_tool.border import users_code
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, describe, from_example, mapped, moved
from gradcheck_tool.inputs.draw import draw
from gradcheck_tool.probing.draws import seed_all
from gradcheck_tool.results import Origin
from gradcheck_tool.state import random_states
from gradcheck_tool.structures import map_tensors

Batch = tuple[Inputs, Any]
"""Inputs and targets; None for no targets."""

_END = object()


def require_positive(**counts: int) -> None:
    """That each of `counts` is a whole number of at least 1.

    Raises:
        GradtoolError: one is not.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise GradtoolError(f"{name} is {count!r}", hint=f"give a whole number from 1 on, as in {name}=4")


def are_batches(value: Any, count: int) -> bool:
    """Whether an example holds batches and is none itself: an iterator or a DataLoader always does; a list, or whatever
    else can be walked through, where more than one batch is asked for (`count`), since else it is the one argument."""
    if isinstance(value, (Iterator, DataLoader)):
        return True
    single = isinstance(value, (Inputs, Tensor, tuple, Mapping, str, bytes))
    return count > 1 and isinstance(value, Iterable) and not single


def read_batches(
    values: Iterable[Any],
    count: int,
    seed: int,
    *,
    paired: bool,
    called: str,
    device: torch.device | None = None,
    origin: Origin = "option",
    note: str | None = None,
    timeout: float = 0,
) -> Iterator[Batch]:
    """The first `count` of `values`, or as many as there are, each read when it is asked for. What they draw at random,
    as a DataLoader that shuffles does, is drawn from `seed`, and the random states are put back.

    Args:
        values: each is an example, as `from_example` takes it; or (inputs, targets) where they are `paired`.
        called: what the user calls `values`, for errors.
        device: where the tensors are moved to; None leaves them where they are.
        origin, note: of the inputs.
        timeout: seconds that reading one may take; 0 for no limit.

    Raises:
        GradtoolError: there is none, one is no example or no pair, or the user's code raises.
    """
    iterator: Iterator[Any] | None = None
    for number in range(count):
        with random_states(), users_code(f"reading batch {number + 1} of {called}", timeout=timeout):
            seed_all(seed + number)
            iterator = iter(values) if iterator is None else iterator
            value = next(iterator, _END)
        if value is _END:
            if number == 0:
                raise GradtoolError(f"{called} gives no batch", hint="an iterator that was used before is empty")
            return
        inputs, targets = _batch(value, paired, f"batch {number + 1} of {called}", origin, note)
        yield (inputs, targets) if device is None else moved_batch(inputs, targets, device)


def moved_batch(inputs: Inputs, targets: Any, device: torch.device) -> Batch:
    """The same batch with every tensor on `device`."""
    return moved(inputs, device), map_tensors(targets, lambda tensor: tensor.to(device))


def _batch(value: Any, paired: bool, called: str, origin: Origin, note: str | None) -> Batch:
    targets = None
    if paired:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise GradtoolError(
                f"{called} is a {type(value).__name__}, not a pair", hint="with a loss, let it be (inputs, targets)"
            )
        value, targets = value
    return from_example(value, origin, note, called), targets


def drawn_anew(model: nn.Module, inputs: Inputs, count: int, seed: int) -> Iterator[Inputs]:
    """`count` times `inputs` with other random values, from the seeds that follow `seed`. Nothing where gradtool has
    not drawn `inputs` itself, or the model takes none."""
    given = inputs.origin == "file" or (inputs.origin == "model" and not inputs.free_batch)
    if given or not inputs.tensors:
        return
    for number in range(1, count + 1):
        yield _redrawn(model, inputs, seed + number)


def _redrawn(model: nn.Module, inputs: Inputs, seed: int) -> Inputs:
    """What would have been drawn from `seed` in the first place."""
    names = (spec.name for spec in describe(model, inputs))
    generator = torch.Generator().manual_seed(seed)

    def again(tensor: Tensor) -> Tensor:
        return draw(model, tuple(tensor.shape), tensor.dtype, generator, next(names))

    return mapped(inputs, again)
