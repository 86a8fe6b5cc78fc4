"""What cannot be captured, with the reason and the line: a graph that would be wrong in silence is worse than none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn

from gradcheck_tool.capturing.generalize import Different, compare_constants, differing
from gradcheck_tool.capturing.ledger import META
from gradcheck_tool.capturing.module import CapturedModule
from gradcheck_tool.capturing.observing import observe_for_real
from gradcheck_tool.capturing.recorder import Recording
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.sources import locate
from gradcheck_tool.state import in_mode
from gradcheck_tool.structures import map_tensors


def refuse_by_looks(model: nn.Module) -> None:
    """What can be told before the model runs.

    Raises:
        GradtoolError: the model has a name that is taken, or one mode only.
    """
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


def refuse_by_recording(recording: Recording, model: nn.Module) -> None:
    """A layer that the first call makes would be made anew in each run; a tensor that was computed out of sight would
    be a constant of the graph, wrong for any other input.

    Raises:
        GradtoolError: there is one.
    """
    if recording.makes:
        place = locate(recording.makes[0])
        raise GradtoolError(
            "the model cannot be captured: its first call makes a layer",
            file=place.file if place else None,
            line=place.line if place else None,
            hint="run the model once before, so that the layer is there",
        )
    for node in recording.graph.nodes:
        if "opaque" in node.meta:
            raise GradtoolError(
                f"the model cannot be captured: {node.meta['opaque']}",
                **_place_of([node], model),
                hint="wrap it in a torch.autograd.Function, or compute it with torch's plain operations",
            )


def refuse_data(recording: Recording, model: nn.Module, inputs: Inputs) -> None:
    """Runs a model that was run for real once more, on other values: what then differs is data, not a constant.

    Raises:
        GradtoolError: the graph holds data, or numbers read from data.
    """
    opaque = any("opaque" in node.meta for node in recording.graph.nodes)
    if opaque or recording.device == META.type or any(tensor.is_meta for tensor in model.parameters()):
        return
    try:
        other = observe_for_real(model, _with_other_values(inputs), recording)
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
