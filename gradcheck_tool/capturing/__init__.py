"""A model and its inputs → the torch.fx graph of what it does.

`observe` records one run, on meta where that goes and for real where it does not; `capture` makes of several such
recordings a module that takes any batch size and follows training and evaluation mode.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.capturing.generalize import (
    Different,
    Undecided,
    compare_constants,
    with_both_modes,
    with_free_batch,
)
from gradcheck_tool.capturing.guards import guard_arguments, guard_batch
from gradcheck_tool.capturing.ledger import Observer, Steering
from gradcheck_tool.capturing.module import CapturedModule
from gradcheck_tool.capturing.recorder import Recording, is_leaf, record
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size, describe
from gradcheck_tool.sources import locate
from gradcheck_tool.state import in_mode, on_meta, preserved
from gradcheck_tool.structures import map_tensors, tensors_in
from gradcheck_tool.wording import size

__all__ = ["CapturedModule", "Observer", "Recording", "Steering", "capture", "is_leaf", "observe"]


def observe(model: nn.Module, inputs: Inputs) -> Recording:
    """Records one forward pass of `model` in the mode that it is in, and leaves it as it was.

    On the meta device first: no data, no memory. Where the model reads values, or holds what cannot be lent, one real
    pass on `inputs`.

    Raises:
        GradtoolError: the model's forward raises on these inputs.
    """
    try:
        return _observe_on_meta(model, inputs)
    except Exception as error:
        if any(tensor.device.type == "meta" for tensor in model.parameters()):
            raise forward_error(error, model, inputs) from error
    return _observe_for_real(model, inputs)


def _observe_on_meta(model: nn.Module, inputs: Inputs) -> Recording:
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().to("meta"))
    with preserved(model), on_meta(model):
        return record(model, args, kwargs, on_meta=True)[0]


def _observe_for_real(model: nn.Module, inputs: Inputs) -> Recording:
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().clone())
    try:
        with preserved(model, values=True):
            return record(model, args, kwargs)[0]
    except Exception as error:
        raise forward_error(error, model, inputs) from error


def forward_error(error: Exception, model: nn.Module, inputs: Inputs) -> GradtoolError:
    """What to say where `model(*inputs)` raised `error`."""
    if isinstance(error, GradtoolError):
        return error
    given = ", ".join(f"{spec.name}={size(spec.shape)}:{spec.dtype}" for spec in describe(model, inputs))
    hint = f"it was called with {given or 'no tensors'}; give the shapes that it takes with --input"
    return blamed(error, f"forward of {type(model).__name__}", hint)


def _with_batch(inputs: Inputs, batch: int, other: int) -> Inputs:
    """`inputs` with `other` samples in the place of `batch`: the samples over again."""

    def change(tensor: Tensor) -> Tensor:
        if not tensor.dim() or tensor.shape[0] != batch:
            return tensor
        if tensor.device.type == "meta":
            return tensor.new_empty((other, *tensor.shape[1:]))
        return tensor[torch.arange(other, device=tensor.device) % batch]

    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), change)
    return replace(inputs, args=args, kwargs=kwargs)


def _first_dimension(inputs: Inputs) -> int | None:
    """The size of the batch, or where the tensors do not agree on one, of the first of them."""
    tensors = tensors_in((inputs.args, dict(inputs.kwargs)))
    return batch_size(inputs) or next((tensor.shape[0] for tensor in tensors if tensor.dim()), None)


def _graph_of_mode(model: nn.Module, inputs: Inputs, training: bool) -> tuple[Recording, list[Steering]]:
    """A recording of one mode whose graph takes any batch size, where the model allows it, and one only elsewhere."""
    batch = _first_dimension(inputs)
    with in_mode(model, training):
        if not batch:
            return observe(model, inputs), []
        samples = max(batch, 2)  # a batch of one takes other ways: squeeze(), broadcasting
        try:
            first = observe(model, _with_batch(inputs, batch, samples))
            second = observe(model, _with_batch(inputs, batch, 2 * samples))
            compare_constants(first.constants, second.constants)
            others = {2 * samples: second.graph}
            try:
                with_free_batch(first.graph, samples, others)
            except Undecided:
                others[2 * samples + 1] = observe(model, _with_batch(inputs, batch, 2 * samples + 1)).graph
                with_free_batch(first.graph, samples, others)
        except (Different, GradtoolError) as error:
            only = observe(model, inputs)
            guard_batch(only.graph, batch)
            reason = f"the graph holds for batch size {batch} only, the model does otherwise at another: {error}"
            return only, [Steering(reason, None)]
    return first, []


def capture(model: nn.Module, inputs: Inputs) -> tuple[CapturedModule, tuple[Steering, ...]]:
    """Captures `model` as a module that shares its parameters and computes what it computes, at any batch size where
    the model allows it, in training and in evaluation mode.

    Returns it with the places where a value, a drawn number or the batch size steered the model.

    Raises:
        GradtoolError: the model's forward raises on these inputs, or computes something out of the recorder's sight.
    """
    training, notes = _graph_of_mode(model, inputs, True)
    evaluation, eval_notes = _graph_of_mode(model, inputs, False)
    given = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs).arguments
    for graph in (training.graph, evaluation.graph):
        _refuse_opaque(graph)
        guard_arguments(graph, model.forward, given)
    constants = dict(training.constants)
    eval_graph: fx.Graph | None = None
    try:
        compare_constants(constants, evaluation.constants)
        with_both_modes(training.graph, evaluation.graph)
    except Different:
        eval_graph = evaluation.graph
        constants |= _renamed_constants(evaluation, constants)
    for graph in (training.graph, *([eval_graph] if eval_graph else [])):
        _settle(graph)
    steered = dict.fromkeys((*training.steered, *notes, *evaluation.steered, *eval_notes))
    return CapturedModule(model, training.graph, eval_graph, constants).checked(), tuple(steered)


def _refuse_opaque(graph: fx.Graph) -> None:
    """A tensor that was computed out of sight would be a constant of the graph: wrong for any other input."""
    for node in graph.nodes:
        if "opaque" in node.meta:
            place = locate(node.meta.get("where"))
            raise GradtoolError(
                f"the model cannot be captured: {node.meta['opaque']}",
                file=place.file if place else None,
                line=place.line if place else None,
                hint="wrap it in a torch.autograd.Function, or compute it with torch's plain operations",
            )


def _renamed_constants(recording: Recording, taken: dict[str, Any]) -> dict[str, Any]:
    """The constants of a second graph, under names that the first has not taken."""
    renamed = {}
    for name, value in recording.constants.items():
        free = name
        while free in taken and taken[free] is not value:
            free += "_eval"
        renamed[free] = value
        for node in recording.graph.nodes:
            if node.op == "get_attr" and node.target == name:
                node.target = free
    return renamed


def _settle(graph: fx.Graph) -> None:
    """Turns the points in running code into places in the source, which can be copied and pickled."""
    for node in graph.nodes:
        if "where" in node.meta:
            node.meta["location"] = locate(node.meta.pop("where"))
