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

from gradcheck_tool.capturing.generalize import (
    Different,
    Undecided,
    compare_constants,
    with_both_modes,
    with_free_batch,
)
from gradcheck_tool.capturing.guards import guard_arguments, guard_batch, guard_sizes
from gradcheck_tool.capturing.ledger import Observer, Steering
from gradcheck_tool.capturing.module import CapturedModule
from gradcheck_tool.capturing.observing import forward_error, observe
from gradcheck_tool.capturing.recorder import Recording, is_leaf
from gradcheck_tool.capturing.refusals import refuse_by_looks, refuse_by_recording, refuse_data
from gradcheck_tool.capturing.sizes import fixed_sizes
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.sources import locate
from gradcheck_tool.state import in_mode, preserved
from gradcheck_tool.structures import map_tensors

__all__ = ["CapturedModule", "Observer", "Recording", "Steering", "capture", "forward_error", "is_leaf", "observe"]


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
    tensors = inputs.tensors
    return batch_size(inputs) or next((tensor.shape[0] for tensor in tensors if tensor.dim()), None)


def _graph_of_mode(model: nn.Module, inputs: Inputs, training: bool) -> tuple[Recording, list[Steering]]:
    """A recording of one mode whose graph takes any batch size, where the model allows it, and one only elsewhere.

    All parts are in that mode: those that stand in the other go by their own `training` when the graph runs. Where the
    model does not run so, they stay as they are.
    """
    if _is_mixed(model):
        try:
            with in_mode(model, training, whole=True):
                return _graph_of_batches(model, inputs)
        except GradtoolError:
            pass
    with in_mode(model, training):
        return _graph_of_batches(model, inputs)


def _is_mixed(model: nn.Module) -> bool:
    return any(module.training != model.training for module in model.modules())


def _with_parts(whole: Recording, model: nn.Module, inputs: Inputs) -> tuple[Recording, list[Steering]]:
    """`whole`, a recording of all parts in the mode that the model is in, with those that stand in the other going by
    their own `training`; where they do more than take other values, a recording of them as they stand."""
    standing, notes = _graph_of_batches(model, inputs)
    try:
        compare_constants(whole.constants, standing.constants)
        with_both_modes(whole.graph, standing.graph, model.training)
    except Different:
        return standing, notes
    return whole, []


def _graph_of_batches(model: nn.Module, inputs: Inputs) -> tuple[Recording, list[Steering]]:
    batch = _first_dimension(inputs)
    if not batch:
        return observe(model, inputs), []
    samples = max(batch, 2)  # a batch of one takes other ways: squeeze(), broadcasting
    several = [_with_batch(inputs, batch, count) for count in (samples, 2 * samples, 2 * samples + 1)]
    try:
        first = observe(model, several[0])
    except GradtoolError as error:
        return _graph_of_one_batch(model, inputs, None, batch, error)
    refuse_data(first, model, several[0])
    try:
        second = observe(model, several[1], first)
        compare_constants(first.constants, second.constants)
        others = {2 * samples: second.graph}
        try:
            with_free_batch(first.graph, samples, others)
        except Undecided:
            others[2 * samples + 1] = observe(model, several[2], first).graph
            with_free_batch(first.graph, samples, others)
    except (Different, GradtoolError) as error:
        return _graph_of_one_batch(model, inputs, first, batch, error)
    return first, []


def _graph_of_one_batch(
    model: nn.Module, inputs: Inputs, known: Recording | None, batch: int, error: Exception
) -> tuple[Recording, list[Steering]]:
    only = observe(model, inputs, known)
    guard_batch(only.graph, batch)
    reason = f"the graph holds for batch size {batch} only, the model does otherwise at another: {error}"
    return only, [Steering(reason, None)]


def _kept_modes(model: nn.Module) -> dict[bool, frozenset[str]]:
    """The modules that a `train()` of the model's own leaves in the other mode than the one that is asked for."""
    if type(model).train is nn.Module.train and "train" not in vars(model):
        return {}
    kept = {}
    with preserved(model):
        for training in (True, False):
            model.train(training)
            kept[training] = frozenset(name for name, module in model.named_modules() if module.training != training)
    return kept


def capture(model: nn.Module, inputs: Inputs) -> tuple[CapturedModule, tuple[Steering, ...]]:
    """Captures `model` as a module that shares its parameters and computes what it computes, at any batch size where
    the model allows it, in training and in evaluation mode.

    Returns it with the places where a value, a drawn number or the batch size steered the model.

    Raises:
        GradtoolError: the model's forward raises on these inputs, or computes something out of the recorder's sight.
    """
    refuse_by_looks(model)
    training, notes = _graph_of_mode(model, inputs, True)
    evaluation, eval_notes = _graph_of_mode(model, inputs, False)
    eval_graph: fx.Graph | None = None
    try:
        compare_constants(training.constants, evaluation.constants)
        with_both_modes(training.graph, evaluation.graph)
    except Different:
        if _is_mixed(model) and model.training:
            training, notes = _with_parts(training, model, inputs)
        elif _is_mixed(model):
            evaluation, eval_notes = _with_parts(evaluation, model, inputs)
        eval_graph = evaluation.graph
    given = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs).arguments
    for recording in (training, evaluation):
        refuse_by_recording(recording, model)
        guard_arguments(recording.graph, model.forward, given)
    constants = dict(training.constants)
    if eval_graph is not None:
        constants |= _renamed_constants(evaluation, constants)
    fixed = fixed_sizes(model, inputs, evaluation)
    for graph in (training.graph, *([eval_graph] if eval_graph else [])):
        guard_sizes(graph, fixed)
        _settle(graph)
    steered = dict.fromkeys((*training.steered, *notes, *evaluation.steered, *eval_notes))
    module = CapturedModule(model, training.graph, eval_graph, constants, _kept_modes(model))
    return module.checked(), tuple(steered)


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
