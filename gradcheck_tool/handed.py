"""A model handed over in Python, and what it is run with → `Subject`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from gradcheck_tool.batches import Batch, are_batches, read_batches
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, for_model
from gradcheck_tool.inputs.draw import model_device
from gradcheck_tool.lazy import copied, is_unfinished
from gradcheck_tool.results import Target
from gradcheck_tool.target import Subject, materialize, unwrapped


def handed(
    model: nn.Module,
    example_inputs: Any,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None,
    seed: int,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
    batches: int = 1,
) -> Subject:
    """The model with its first batch, and with those that follow in the example.

    Raises:
        GradtoolError: no inputs come of what is given.
        TypeError: `model` is none.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(f"model is the class {model.__name__} itself: pass an instance, as {model.__name__}()")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    model = unwrapped(model, type(model).__name__)
    following: Iterator[Batch] | None = None if example_inputs is None else iter(())
    if input_size is None and are_batches(example_inputs, batches):
        if targets is not None:
            raise GradtoolError("targets are given beside batches", hint="let each batch be (inputs, targets)")
        following = read_batches(
            example_inputs,
            batches,
            seed,
            paired=loss_fn is not None,
            called="example_inputs",
            device=model_device(model),
        )
        inputs, targets = next(following)
    else:
        inputs = for_model(model, example_inputs, input_size, seed)
    model = _materialized(model, inputs)
    name = type(model).__name__
    return Subject(model, inputs, Target(name, None, name), loss_fn, targets, following=following)


def _materialized(model: nn.Module, inputs: Inputs) -> nn.Module:
    """`model`, or where it has lazy layers a copy in which they have their size: the model itself is left as it was."""
    if not is_unfinished(model):
        return model
    twin = copied(model)
    materialize(twin, inputs)
    return twin
