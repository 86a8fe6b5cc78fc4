"""Which sizes of the inputs, besides the batch, a graph holds for: any, or the recorded one alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gradcheck_tool.capturing.generalize import Different, differing
from gradcheck_tool.capturing.guards import input_nodes
from gradcheck_tool.capturing.observing import observe
from gradcheck_tool.capturing.recorder import Recording
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.state import in_mode
from gradcheck_tool.structures import map_tensors


def fixed_sizes(model: nn.Module, inputs: Inputs, known: Recording) -> set[tuple[str, int]]:
    """The dimensions of inputs, but for the batch, at whose sizes alone a graph of `model` holds, by (node, dimension):
    at another the model does otherwise, or refuses. `known` is a recording of it in evaluation mode."""
    with in_mode(model, False):
        base = observe(model, inputs, known)
        wanted = {
            (node.name, dim) for node in input_nodes(base.graph) for dim in range(1, len(node.meta.get("shape", ())))
        }
        sizes = sorted({(dim, tensor.shape[dim]) for tensor in inputs.tensors for dim in range(1, tensor.dim())})
        for dim, size_there in sizes:
            here = {
                (node.name, dim)
                for node in input_nodes(base.graph)
                if node.meta.get("shape", ())[dim : dim + 1] == (size_there,)
            }
            if _same_at(model, inputs, base, dim, size_there, 2 * size_there) is True and (
                _same_at(model, inputs, base, dim, size_there, size_there + 1) is not False
            ):
                wanted -= here
        return wanted


def _same_at(model: nn.Module, inputs: Inputs, base: Recording, dim: int, old: int, new: int) -> bool | None:
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
        graph = observe(model, replace(inputs, args=args, kwargs=kwargs), base).graph
        return differing(base.graph, graph) is None
    except GradtoolError:
        return None
    except Different:
        return False
