"""One recording of a model: on meta, without data, where that goes, and for real where it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import fx, nn

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.capturing.ledger import Steering
from gradcheck_tool.capturing.outside import forgotten_outside
from gradcheck_tool.capturing.recorder import Recording, record
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, describe
from gradcheck_tool.state import on_meta, preserved
from gradcheck_tool.structures import map_tensors, tensors_in
from gradcheck_tool.wording import size

_OTHERWISE = Steering("a second call does otherwise, by what the first has kept; the graph is that of the first", None)


def observe(model: nn.Module, inputs: Inputs, known: Recording | None = None) -> Recording:
    """Records one forward pass of `model` in the mode that it is in, and leaves it as it was.

    On the meta device first: no data, no memory. Where the model reads values, or holds what cannot be lent, one real
    pass on `inputs`.

    Args:
        model: what is recorded.
        inputs: of the pass.
        known: a recording of the same model in the same mode, with inputs of other sizes. It tells already whether the
            model can be recorded on meta, and what a second call does.

    Raises:
        GradtoolError: the model's forward raises on these inputs.
    """
    if known is not None and known.device != "meta":
        return observe_for_real(model, inputs, known)
    try:
        return _observe_on_meta(model, inputs, known)
    except _KeptOutside:
        observe_for_real(model, inputs)  # fills those caches with data, for this recording and for every other
    except Exception as error:
        if any(tensor.device.type == "meta" for tensor in model.parameters()):
            if "meta tensor" in str(error):
                hint = "its weights are on the meta device, where no value can be read: build it with weights"
                raise blamed(error, f"forward of {type(model).__name__}", hint) from error
            raise forward_error(error, model, inputs) from error
    return observe_for_real(model, inputs, known)


class _KeptOutside(Exception):
    """A cache outside of the model kept what was made on meta."""


def _observe_on_meta(model: nn.Module, inputs: Inputs, known: Recording | None) -> Recording:
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().to("meta"))
    given = {id(tensor) for tensor in tensors_in((args, kwargs))}
    with preserved(model) as held, on_meta(model, held) as lent:
        given.update(map(id, lent.values()))
        recording = record(model, args, kwargs, on_meta=True)[0]
        recording = _with_second_call(recording, known, model, args, kwargs, on_meta=True)
    given.update(map(id, (*model.parameters(), *model.buffers())))
    if forgotten_outside(
        [tensor for ref in recording.held if (tensor := ref()) is not None and id(tensor) not in given]
    ):
        raise _KeptOutside
    return recording


def observe_for_real(model: nn.Module, inputs: Inputs, known: Recording | None = None) -> Recording:
    """Records one forward pass on the values of `inputs`; what `known` is, `observe` says.

    Raises:
        GradtoolError: the model's forward raises on these inputs.
    """
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda tensor: tensor.detach().clone())
    try:
        with preserved(model, values=True):
            recording = record(model, args, kwargs)[0]
            return _with_second_call(recording, known, model, args, kwargs)
    except Exception as error:
        raise forward_error(error, model, inputs) from error


def _with_second_call(
    recording: Recording, known: Recording | None, model: nn.Module, args: Any, kwargs: Any, on_meta: bool = False
) -> Recording:
    """`recording`, with a note where a second call of a model that keeps something does other things with its input;
    the note of a `known` recording where there is one."""
    if known is not None:
        return replace(recording, steered=(*recording.steered, *(note for note in known.steered if note == _OTHERWISE)))
    if not recording.keeps:
        return recording
    try:
        again = record(model, args, kwargs, on_meta=on_meta)[0]
    except Exception:  # noqa: BLE001  # what the second call cannot do is no fault of the first
        return recording
    if _done_with_inputs(recording.graph) == _done_with_inputs(again.graph):
        return recording
    return replace(recording, steered=(*recording.steered, _OTHERWISE))


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
