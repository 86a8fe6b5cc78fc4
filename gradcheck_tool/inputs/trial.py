"""Whether a model takes given inputs: it is run on the meta device, and for real where meta itself is the trouble.

The model, the random states and the person's terminal are left as they were.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.compiler import uncompiled
from gradcheck_tool.inputs import Inputs, moved, resized
from gradcheck_tool.lazy import copied, is_unfinished
from gradcheck_tool.state import on_meta, preserved, random_states, training_mode

_META_TROUBLE = ("meta", "same device", "expected device", "data-dependent", "data dependent")


@dataclass(frozen=True)
class Trial:
    """How a forward pass went. `error` is None where it went through; `misfit` is what the first Linear layer that did
    not fit had got and what it needs, the number of features each."""

    error: Exception | None
    misfit: tuple[int, int] | None = None

    @property
    def passed(self) -> bool:
        return self.error is None


def passes(model: nn.Module, inputs: Inputs) -> bool:
    """Whether `model(*inputs.args, **inputs.kwargs)` goes through."""
    return attempt(model, inputs).passed


def attempt(model: nn.Module, inputs: Inputs, for_real: bool = False) -> Trial:
    """Runs `model` in training mode, on meta or (`for_real`) on its own device at a batch of 2, and puts it back."""
    if is_unfinished(model):
        with random_states():
            return _run(copied(model), resized(inputs, 2))  # a lazy layer takes its size from its first input
    weightless = all(parameter.is_meta for parameter in model.parameters())
    if not for_real or weightless:
        trial = _on_meta(model, inputs, contextlib.nullcontext())
        if trial.error is not None and _is_meta_trouble(trial.error):
            trial = _on_meta(model, inputs, torch.device("meta"))  # for what forward makes itself; it slows every op
        if trial.error is None or weightless or not _is_meta_trouble(trial.error):
            return trial
    with preserved(model, values=True), training_mode(model):
        return _run(model, resized(inputs, 2))


def _on_meta(model: nn.Module, inputs: Inputs, defaults: AbstractContextManager[Any]) -> Trial:
    with uncompiled(), preserved(model), training_mode(model), on_meta(model), defaults:
        return _run(model, moved(inputs, torch.device("meta")))


def _is_meta_trouble(error: Exception) -> bool:
    return isinstance(error, NotImplementedError) or any(words in str(error) for words in _META_TROUBLE)


def _run(model: nn.Module, inputs: Inputs) -> Trial:
    got: list[tuple[int, int]] = []

    def watch(module: nn.Module, args: tuple[object, ...]) -> None:
        if isinstance(module, nn.Linear) and args and isinstance(args[0], Tensor) and args[0].ndim:
            got.append((args[0].shape[-1], module.in_features))

    hooks = [module.register_forward_pre_hook(watch) for module in model.modules() if isinstance(module, nn.Linear)]
    try:
        with _in_silence():
            model(*inputs.args, **inputs.kwargs)
    except Exception as error:  # noqa: BLE001  the border to the user's code: any error means that these do not fit
        last = got[-1] if got else None
        return Trial(error, last if last and last[0] != last[1] else None)
    finally:
        for hook in hooks:
            hook.remove()
    return Trial(None)


@contextmanager
def _in_silence() -> Iterator[None]:
    """What the model prints in a trial is not for the person: there may be fifty of them."""
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        yield
