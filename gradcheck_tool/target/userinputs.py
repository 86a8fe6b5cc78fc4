"""Inputs that the user wrote down in Python: `example_inputs`, `example_batch` and `loss_fn` in the model's file, or
what `--inputs-from FILE:FUNC` names."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from gradcheck_tool.batches import Batch, are_batches, read_batches
from gradcheck_tool.border import users_code
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, from_example
from gradcheck_tool.sources import display_path
from gradcheck_tool.target.loading import at_home, load_file, load_module
from gradcheck_tool.target.spec import parse


@dataclass(frozen=True)
class Found:
    """Inputs, loss function and targets; and the batches behind the first, None where gradtool may draw them."""

    inputs: Inputs
    loss_fn: Callable[[Any, Any], Any] | None = None
    targets: Any = None
    following: Iterator[Batch] | None = None


@dataclass(frozen=True)
class Wanted:
    """How many batches, from which seed where they are drawn, and the seconds that each of the user's calls may take; 0
    for no limit."""

    batches: int = 1
    seed: int = 0
    timeout: float = 0


def from_module(module: ModuleType, wanted: Wanted) -> Found | None:
    """The inputs that `module` defines, None where it defines none. Of the two, `example_batch` is taken where there is
    a `loss_fn` to use its targets with, else `example_inputs`."""
    names = vars(module)
    preferred = ("example_batch", "example_inputs") if "loss_fn" in names else ("example_inputs", "example_batch")
    name = next((name for name in preferred if name in names), None)
    return None if name is None else _found(module, name, module, wanted)


def from_elsewhere(text: str, target: ModuleType, wanted: Wanted) -> Found:
    """The inputs that `--inputs-from FILE:FUNC` names; without FUNC the file's `example_inputs` or `example_batch`. The
    loss is the `loss_fn` of that file, else of the target's.

    Raises:
        GradtoolError: there is no such file or name in it, it raises, or what it gives are no inputs.
    """
    spec = parse(text)
    if spec.file and str(spec.file) == getattr(target, "__file__", None):
        module = target
    elif spec.file:
        with at_home(spec.file.parent, str(spec.file)):
            module = load_file(spec.file, wanted.timeout)
    else:
        module = load_module(str(spec.module), wanted.timeout)
    if spec.called or (spec.name and "." in spec.name):
        raise GradtoolError(
            f"--inputs-from {text} has more than a name after the colon", hint="type --inputs-from FILE:FUNC"
        )
    if spec.name is None:
        found = from_module(module, wanted)
        if found is None:
            raise GradtoolError(
                "defines neither example_inputs nor example_batch",
                file=spec.place,
                hint=f"name what does: --inputs-from {text}:FUNC",
            )
        return found
    if spec.name not in vars(module):
        near = difflib.get_close_matches(spec.name, [name for name in vars(module) if not name.startswith("_")], n=1)
        raise GradtoolError(
            f"there is no {spec.name} in {spec.place}",
            hint=f"did you mean {near[0]}?" if near else "define it as a value or as a function of no arguments",
        )
    return _found(module, spec.name, target, wanted)


def _found(module: ModuleType, name: str, target: ModuleType, wanted: Wanted) -> Found:
    value, place = _value(module, name, wanted.timeout)
    note = f"{name} of {display_path(str(getattr(module, '__file__', module.__name__)))}"
    if name != "example_batch":
        if are_batches(value, wanted.batches):
            return _first(value, name, note, None, wanted, place)
        return Found(_inputs(value, note, name, place))
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and not _are_pairs(value)
    if not pair and not _are_pairs(value) and (isinstance(value, list) or not are_batches(value, 2)):
        raise GradtoolError(f"example_batch is {_kind(value)}, not a pair", hint="let it be (inputs, targets)", **place)
    loss_fn = vars(module).get("loss_fn", vars(target).get("loss_fn"))
    if isinstance(loss_fn, type) and issubclass(loss_fn, nn.Module):
        raise GradtoolError(
            f"loss_fn is the class {loss_fn.__name__}", hint=f"make one of it: loss_fn = {loss_fn.__name__}()", **place
        )
    if loss_fn is not None and not callable(loss_fn):
        raise GradtoolError(
            f"loss_fn is {_kind(loss_fn)}, not a function", hint="let it take (output, targets)", **place
        )
    if not pair:
        return _first(value, name, note, loss_fn, wanted, place)
    return Found(_inputs(value[0], note, name, place), loss_fn, value[1])


def _are_pairs(value: Any) -> bool:
    """Whether it is a list of (inputs, targets)."""
    return isinstance(value, list) and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in value)


def _first(values: Any, name: str, note: str, loss_fn: Any, wanted: Wanted, place: dict[str, Any]) -> Found:
    """The first of the user's batches, with the way to those that follow."""
    following = read_batches(
        values,
        wanted.batches,
        wanted.seed,
        paired=name == "example_batch",
        called=name,
        origin="file",
        note=note,
        timeout=wanted.timeout,
    )
    try:
        inputs, targets = next(following)
    except GradtoolError as error:
        if error.file is not None:
            raise
        raise GradtoolError(error.message, hint=error.hint, **place) from error
    return Found(inputs, loss_fn, targets, following)


def _inputs(value: Any, note: str, name: str, place: dict[str, Any]) -> Inputs:
    try:
        return from_example(value, "file", note, name)
    except GradtoolError as error:
        raise GradtoolError(error.message, hint=error.hint, **place) from error


def _value(module: ModuleType, name: str, timeout: float) -> tuple[Any, dict[str, Any]]:
    """The value called `name`, from a call where it is a function; and its place for an error."""
    value = vars(module)[name]
    file = getattr(module, "__file__", None)
    place: dict[str, Any] = {"file": display_path(file) if file else None, "line": None}
    if not callable(value) or isinstance(value, Tensor):
        return value, place
    code = getattr(value, "__code__", None)
    place["line"] = None if code is None else code.co_firstlineno
    required = [
        p.name
        for p in inspect.signature(value).parameters.values()
        if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    if required:
        raise GradtoolError(
            f"{name} needs {', '.join(required)}",
            hint="make it a function of no arguments, or give the arguments defaults",
            **place,
        )
    with users_code(f"calling {name}()", timeout=timeout, **place):
        return value(), place


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
