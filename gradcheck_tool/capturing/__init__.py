"""A model and its inputs → the torch.fx graph of what it does.

`observe` records one run, on meta where that goes and for real where it does not; `capture` makes of several such
recordings a module that takes any batch size and follows training and evaluation mode.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.capturing.generalize import (
    Different,
    Undecided,
    compare_constants,
    differing,
    with_both_modes,
    with_free_batch,
)
from gradcheck_tool.capturing.guards import guard_arguments, guard_batch, guard_sizes, input_nodes
from gradcheck_tool.capturing.ledger import META, Observer, Steering
from gradcheck_tool.capturing.module import CapturedModule
from gradcheck_tool.capturing.outside import forgotten_outside
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
    except _KeptOutside:
        _observe_for_real(model, inputs)  # fills those caches with data, for this recording and for every other
    except Exception as error:
        if any(tensor.device.type == "meta" for tensor in model.parameters()):
            if "meta tensor" in str(error):
                hint = "its weights are on the meta device, where no value can be read: build it with weights"
                raise blamed(error, f"forward of {type(model).__name__}", hint) from error
            raise forward_error(error, model, inputs) from error
    return _observe_for_real(model, inputs)


class _KeptOutside(Exception):
    """A cache outside of the model kept what was made on meta."""


def _observe_on_meta(model: nn.Module, inputs: Inputs) -> Recording:
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().to("meta"))
    given = {id(tensor) for tensor in tensors_in((args, kwargs))}
    with preserved(model) as held, on_meta(model, held) as lent:
        given.update(map(id, lent.values()))
        recording = record(model, args, kwargs, on_meta=True)[0]
        recording = _with_second_call(recording, model, args, kwargs, on_meta=True)
    given.update(map(id, (*model.parameters(), *model.buffers())))
    if forgotten_outside(
        [tensor for ref in recording.held if (tensor := ref()) is not None and id(tensor) not in given]
    ):
        raise _KeptOutside
    return recording


def _observe_for_real(model: nn.Module, inputs: Inputs) -> Recording:
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().clone())
    try:
        with preserved(model, values=True):
            recording = record(model, args, kwargs)[0]
            return _with_second_call(recording, model, args, kwargs)
    except Exception as error:
        raise forward_error(error, model, inputs) from error


def _with_second_call(
    recording: Recording, model: nn.Module, args: Any, kwargs: Any, on_meta: bool = False
) -> Recording:
    """`recording`, with a note where a second call of a model that keeps something does other things with its input."""
    if not recording.keeps:
        return recording
    try:
        again = record(model, args, kwargs, on_meta=on_meta)[0]
    except Exception:  # noqa: BLE001  # what the second call cannot do is no fault of the first
        return recording
    if _done_with_inputs(recording.graph) == _done_with_inputs(again.graph):
        return recording
    note = Steering("a second call does otherwise, by what the first has kept; the graph is that of the first", None)
    return replace(recording, steered=(*recording.steered, note))


def _done_with_inputs(graph: fx.Graph) -> list[Any]:
    """What is computed from the inputs: the calls and the values that they are given."""
    behind: dict[fx.Node, str] = {}
    done = []
    for node in graph.nodes:
        if node.op == "placeholder" or any(part in behind for part in node.all_input_nodes):
            behind[node] = f"%{len(behind)}"
            done.append(
                (node.op, node.target, fx.node.map_arg((node.args, node.kwargs), lambda part: behind.get(part, "%")))
            )
    return [str(one) for one in done]


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
    """A recording of one mode whose graph takes any batch size, where the model allows it, and one only elsewhere.

    All parts are in that mode: those that stand in the other go by their own `training` when the graph runs. Where the
    model does not run so, they stay as they are.
    """
    if any(module.training != model.training for module in model.modules()):
        try:
            with in_mode(model, training, whole=True):
                return _graph_of_batches(model, inputs)
        except GradtoolError:
            pass
    with in_mode(model, training):
        return _graph_of_batches(model, inputs)


def _graph_of_batches(model: nn.Module, inputs: Inputs) -> tuple[Recording, list[Steering]]:
    batch = _first_dimension(inputs)
    if not batch:
        return observe(model, inputs), []
    samples = max(batch, 2)  # a batch of one takes other ways: squeeze(), broadcasting
    several = [_with_batch(inputs, batch, count) for count in (samples, 2 * samples, 2 * samples + 1)]
    try:
        first = observe(model, several[0])
    except GradtoolError as error:
        return _graph_of_one_batch(model, inputs, batch, error)
    _refuse_data(first, model, several[0])
    try:
        second = observe(model, several[1])
        compare_constants(first.constants, second.constants)
        others = {2 * samples: second.graph}
        try:
            with_free_batch(first.graph, samples, others)
        except Undecided:
            others[2 * samples + 1] = observe(model, several[2]).graph
            with_free_batch(first.graph, samples, others)
    except (Different, GradtoolError) as error:
        return _graph_of_one_batch(model, inputs, batch, error)
    return first, []


def _graph_of_one_batch(
    model: nn.Module, inputs: Inputs, batch: int, error: Exception
) -> tuple[Recording, list[Steering]]:
    only = observe(model, inputs)
    guard_batch(only.graph, batch)
    reason = f"the graph holds for batch size {batch} only, the model does otherwise at another: {error}"
    return only, [Steering(reason, None)]


def _refuse_data(recording: Recording, model: nn.Module, inputs: Inputs) -> None:
    """Runs a model that was run for real once more, on other values: what then differs is data, not a constant.

    Raises:
        GradtoolError: the graph holds data, or numbers read from data.
    """
    opaque = any("opaque" in node.meta for node in recording.graph.nodes)
    if opaque or recording.device == META.type or any(tensor.is_meta for tensor in model.parameters()):
        return
    try:
        other = _observe_for_real(model, _with_other_values(inputs))
        node = differing(recording.graph, other.graph)
        names = [name for name, mine in recording.constants.items() if not _same(name, mine, other.constants)]
    except (Different, GradtoolError):
        return  # values steer it: that is noted
    if node is None and not names:
        return
    node = node or next(one for one in recording.graph.nodes if one.target == names[0])
    raise GradtoolError(
        "the model cannot be captured: it computes with data that was read out of a tensor or made out of sight",
        **_place_of([node, *node.users], model),
        hint="compute it with torch's operations on tensors",
    )


def _same(name: str, mine: Any, others: Mapping[str, Any]) -> bool:
    try:
        compare_constants({name: mine}, {name: others.get(name, mine)})
    except Different:
        return False
    return True


def _place_of(nodes: Iterable[fx.Node], model: nn.Module) -> dict[str, Any]:
    """The place of the first of `nodes` that has one, else that of the model's forward, for an error."""
    place = next((locate(node.meta["where"]) for node in nodes if node.meta.get("where")), None)
    code = getattr(type(model).forward, "__code__", None)
    if place is None and code is not None:
        return {"file": code.co_filename, "line": code.co_firstlineno}
    return {"file": place.file if place else None, "line": place.line if place else None}


def _with_other_values(inputs: Inputs) -> Inputs:
    """`inputs` with other numbers where they are floats."""

    def change(tensor: Tensor) -> Tensor:
        return 0.75 * tensor.flip(tuple(range(1, tensor.dim()))) if tensor.is_floating_point() else tensor

    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), change)
    return replace(inputs, args=args, kwargs=kwargs)


def _fixed_sizes(model: nn.Module, inputs: Inputs) -> set[tuple[str, int]]:
    """The dimensions of inputs, but for the batch, at whose sizes alone a graph of `model` holds, by (node, dimension):
    at another the model does otherwise, or refuses."""
    with in_mode(model, False):
        base = observe(model, inputs).graph
        wanted = {(node.name, dim) for node in input_nodes(base) for dim in range(1, len(node.meta.get("shape", ())))}
        sizes = sorted({(dim, tensor.shape[dim]) for tensor in _given(inputs) for dim in range(1, tensor.dim())})
        for dim, size_there in sizes:
            here = {
                (node.name, dim)
                for node in input_nodes(base)
                if node.meta.get("shape", ())[dim : dim + 1] == (size_there,)
            }
            if _same_at(model, inputs, base, dim, size_there, 2 * size_there) is True and (
                _same_at(model, inputs, base, dim, size_there, size_there + 1) is not False
            ):
                wanted -= here
        return wanted


def _given(inputs: Inputs) -> list[Tensor]:
    return list(tensors_in((inputs.args, dict(inputs.kwargs))))


def _same_at(model: nn.Module, inputs: Inputs, base: fx.Graph, dim: int, old: int, new: int) -> bool | None:
    """Whether the graph is the same where a dimension has another size; None where the model does not run there."""

    def change(tensor: Tensor) -> Tensor:
        if tensor.dim() <= dim or tensor.shape[dim] != old:
            return tensor
        index = torch.arange(new) % old
        if tensor.device.type == "meta":
            return tensor.new_empty((*tensor.shape[:dim], new, *tensor.shape[dim + 1 :]))
        return tensor.index_select(dim, index.to(tensor.device))

    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), change)
    try:
        graph = observe(model, replace(inputs, args=args, kwargs=kwargs)).graph
        return differing(base, graph) is None
    except GradtoolError:
        return None
    except Different:
        return False


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
    _refuse_by_looks(model)
    training, notes = _graph_of_mode(model, inputs, True)
    evaluation, eval_notes = _graph_of_mode(model, inputs, False)
    given = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs).arguments
    for recording in (training, evaluation):
        if recording.makes:
            place = locate(recording.makes[0])
            raise GradtoolError(
                "the model cannot be captured: its first call makes a layer",
                file=place.file if place else None,
                line=place.line if place else None,
                hint="run the model once before, so that the layer is there",
            )
    for graph in (training.graph, evaluation.graph):
        _refuse_opaque(graph, model)
        guard_arguments(graph, model.forward, given)
    constants = dict(training.constants)
    eval_graph: fx.Graph | None = None
    try:
        compare_constants(constants, evaluation.constants)
        with_both_modes(training.graph, evaluation.graph)
    except Different:
        eval_graph = evaluation.graph
        constants |= _renamed_constants(evaluation, constants)
    fixed = _fixed_sizes(model, inputs)
    for graph in (training.graph, *([eval_graph] if eval_graph else [])):
        guard_sizes(graph, fixed)
        _settle(graph)
    steered = dict.fromkeys((*training.steered, *notes, *evaluation.steered, *eval_notes))
    module = CapturedModule(model, training.graph, eval_graph, constants, _kept_modes(model))
    return module.checked(), tuple(steered)


def _refuse_by_looks(model: nn.Module) -> None:
    """What can be told before the model runs."""
    own = {*model._parameters, *model._buffers, *model._modules}
    clash = sorted(own & {*dir(CapturedModule), "meta", "_graph", "_eval_graph"})
    if clash:
        raise GradtoolError(
            f"the model cannot be captured: it has a part called {clash[0]}, as every torch.fx.GraphModule has another",
            hint=f"rename it, or put the model in another: nn.Sequential({type(model).__name__}())",
        )
    try:
        with in_mode(model, not model.training):
            pass
    except NotImplementedError as error:
        raise GradtoolError(
            f"the model cannot be captured: {type(model).__name__} has one mode only ({error})",
            hint="give the model that it was exported from",
        ) from error


def _refuse_opaque(graph: fx.Graph, model: nn.Module) -> None:
    """A tensor that was computed out of sight would be a constant of the graph: wrong for any other input."""
    for node in graph.nodes:
        if "opaque" in node.meta:
            raise GradtoolError(
                f"the model cannot be captured: {node.meta['opaque']}",
                **_place_of([node], model),
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
