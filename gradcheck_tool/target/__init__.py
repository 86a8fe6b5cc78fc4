"""TARGET, as typed on the command line → `Subject`: a model, its inputs, and where its modules were constructed."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.results import Location, Target

if TYPE_CHECKING:
    from torch import nn

    from gradcheck_tool.batches import Batch
    from gradcheck_tool.sources import Stack
    from gradcheck_tool.target.spec import TargetSpec
    from gradcheck_tool.target.userinputs import Found


@dataclass(frozen=True)
class Subject:
    """Everything that the verbs need to know of what they look at."""

    model: nn.Module
    inputs: Inputs
    target: Target
    loss_fn: Callable[[Any, Any], Any] | None = None
    targets: Any = None
    births: Mapping[str, Location] = field(default_factory=dict)
    """Where each submodule was constructed, by its qualified name; only those that were seen."""
    origins: Mapping[str, Stack] = field(default_factory=dict)
    """The user's own code that was running then, by each name of a submodule."""
    following: Iterator[Batch] | None = None
    """The user's batches behind the first, read as they are asked for; None where the inputs are no example."""


def load_subject(
    spec: str,
    *,
    input_specs: Sequence[str] = (),
    inputs_from: str | None = None,
    weights: str | None = None,
    device: str | None = None,
    seed: int = 0,
    timeout: float = 60.0,
    batches: int = 1,
) -> Subject:
    """Loads what TARGET names, which executes it, and finds the inputs to run it with.

    Args:
        spec: `model.py`, `model.py:NAME`, `model.py:build(depth=50)`, `package.module:NAME`.
        input_specs: `[NAME=]DIMxDIM…[:DTYPE]`, one an input.
        inputs_from: `FILE:FUNC`, a value or a function of no arguments.
        weights: a `.pt`, `.pth` or `.safetensors` file.
        device: a device of torch to run on; the model's own by default.
        seed: of the model's initialization and of random inputs.
        timeout: seconds that each piece of the user's code may take; 0 for no limit.
        batches: how many are wanted of an example that holds several; from 2 on a list of inputs does.

    Raises:
        GradtoolError: whatever stands in the way, with the user's file and line and what to type next.
    """
    from gradcheck_tool.sources import births, display_path
    from gradcheck_tool.target.weights import load_weights

    with _seeded(seed), _at_home(spec) as parsed:
        with births() as born:
            module, model, name = _built(parsed, timeout)
        if weights is not None:
            load_weights(model, weights)
        _move(model, device)
        file = getattr(module, "__file__", None)
        target = Target(spec, display_path(file) if file else None, name)
        found = _inputs(model, module, input_specs, inputs_from, seed, timeout, batches)
        if device is not None:
            found = _moved_inputs(model, found)
        materialize(model, found.inputs)
        return Subject(
            model,
            found.inputs,
            target,
            found.loss_fn,
            found.targets,
            born.of(model),
            born.stacks(model),
            found.following,
        )


def load_model(spec: str, *, device: str | None = None, seed: int = 0, timeout: float = 60.0) -> nn.Module:
    """The model alone that TARGET names, built as `load_subject` builds it. Lazy layers wait for their inputs."""
    with _seeded(seed), _at_home(spec) as parsed:
        _, model, _ = _built(parsed, timeout)
        _move(model, device)
        return model


@contextmanager
def _at_home(spec: str) -> Iterator[TargetSpec]:
    """The parts of TARGET, while its code feels at home."""
    from gradcheck_tool.target.loading import at_home
    from gradcheck_tool.target.spec import parse

    parsed = parse(spec)
    with at_home(parsed.file.parent if parsed.file else Path.cwd(), str(parsed.file or parsed.module)):
        yield parsed


def _built(parsed: TargetSpec, timeout: float) -> tuple[ModuleType, nn.Module, str]:
    """The user's module, the model in it, and the name of that."""
    from gradcheck_tool.target.choose import build
    from gradcheck_tool.target.loading import load_file, load_module

    module = load_file(parsed.file, timeout) if parsed.file else load_module(str(parsed.module), timeout)
    built, name = build(module, parsed, timeout)
    return module, unwrapped(built, name, parsed.place), name


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The same random initialization every time, and the random states put back afterwards."""
    import torch

    from gradcheck_tool.state import random_states

    with random_states():
        torch.manual_seed(seed)
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed % 2**32)
        yield


def unwrapped(model: nn.Module, name: str, place: str | None = None) -> nn.Module:
    """The model inside DataParallel and torch.compile.

    Raises:
        GradtoolError: it is scripted, or has no parameters.
    """
    import torch
    from torch import nn

    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, parallel) else model._orig_mod  # type: ignore[assignment]
    if isinstance(model, torch.jit.ScriptModule):
        raise GradtoolError(
            f"{name} is a TorchScript module, whose Python code is gone",
            file=place,
            hint="name the nn.Module that it was scripted or traced from",
        )
    if next(model.parameters(), None) is None:
        raise GradtoolError(
            f"{type(model).__name__} has no parameters, so it has no gradients to look at",
            file=place,
            hint="name the model that is trained; layers in a plain list belong into an nn.ModuleList",
        )
    return model


def _move(model: nn.Module, device: str | None) -> None:
    import torch

    if device is None:
        return
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise GradtoolError(
            f"--device {device} is no device of torch", hint="cpu, cuda, cuda:1, mps and meta are some"
        ) from error
    try:
        model.to(place)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise GradtoolError(
            f"--device {device} cannot be used here: {error}", hint="leave --device out, or give --device cpu"
        ) from error


def _moved_inputs(model: nn.Module, found: Found) -> Found:
    from torch import nn

    from gradcheck_tool.batches import moved_batch
    from gradcheck_tool.inputs.draw import model_device

    place = model_device(model)
    inputs, targets = moved_batch(found.inputs, found.targets, place)
    loss_fn = found.loss_fn.to(place) if isinstance(found.loss_fn, nn.Module) else found.loss_fn
    following = found.following
    if following is not None:
        following = (moved_batch(*batch, place) for batch in following)
    return replace(found, inputs=inputs, targets=targets, loss_fn=loss_fn, following=following)


def materialize(model: nn.Module, inputs: Inputs) -> None:
    """Gives lazy layers their size, by one pass in evaluation mode; a model without lazy layers is not run."""
    import torch

    from gradcheck_tool.border import users_code
    from gradcheck_tool.lazy import is_unfinished
    from gradcheck_tool.state import random_states

    if not is_unfinished(model):
        return
    modes = [(module, module.training) for module in model.modules()]
    with users_code(f"forward of {type(model).__name__}"), torch.enable_grad(), random_states():
        model.eval()(*inputs.args, **inputs.kwargs)
    for module, mode in modes:
        module.training = mode


def _inputs(
    model: nn.Module,
    module: ModuleType,
    specs: Sequence[str],
    inputs_from: str | None,
    seed: int,
    timeout: float,
    batches: int,
) -> Found:
    """The inputs by order of precedence: `--input`, `--inputs-from`, the file's own, the model's own, inferred."""
    from gradcheck_tool.border.timelimit import OutOfTime, time_limit
    from gradcheck_tool.inputs import carried, from_specs
    from gradcheck_tool.inputs.infer import infer
    from gradcheck_tool.target.userinputs import Found, Wanted, from_elsewhere, from_module

    wanted = Wanted(batches, seed, timeout)
    if specs and inputs_from:
        raise GradtoolError("both --input and --inputs-from are given", hint="give one of the two")
    if inputs_from is not None:
        return from_elsewhere(inputs_from, module, wanted)
    if specs:
        return Found(from_specs(model, specs, seed))
    found = from_module(module, wanted)
    if found is not None:
        return found
    try:
        with time_limit(timeout):
            return Found(carried(model, seed) or infer(model, seed))
    except OutOfTime as error:
        raise GradtoolError(
            f"no input for {type(model).__name__} was found in {timeout:g} s",
            hint="give one with --input 32x784, or more time with --timeout SECONDS",
        ) from error
