"""What a weight layer puts out, as far as a norm behind it depends on that: where its channels are, and how many values
it has of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import fx, nn
from torch.nn.utils import parametrize

from gradcheck_tool.chains import Block, Call, Structure, spatial_dims
from gradcheck_tool.operands import factors
from gradcheck_tool.ops import operation_name


@dataclass(frozen=True)
class Output:
    """The output of one call of a weight layer.

    Attributes:
        shape: of it, batch included: (N, C), (N, L, C), (N, C, H, W).
        spatial: the number of its spatial dimensions: 0 behind a Linear, 1 to 3 behind a convolution.
        is_stepped: the layer is called at each step of a recurrence.
        samples: the batch size that the user gives; None where gradtool chose it.
    """

    shape: tuple[int, ...]
    spatial: int
    is_stepped: bool = False
    samples: int | None = None

    @property
    def channels(self) -> int:
        return self.shape[-1 - self.spatial]

    @property
    def positions(self) -> int:
        """The values per channel of one sample, which is 1 behind a Linear."""
        return math.prod(self.shape[len(self.shape) - self.spatial :])

    @property
    def has_batch(self) -> bool:
        return len(self.shape) > self.spatial + 1

    @property
    def is_sequence(self) -> bool:
        """Whether there are dimensions between that of the batch and that of the channels."""
        return len(self.shape) > self.spatial + 2

    @property
    def size(self) -> str:
        """`32x784`, for people."""
        return "x".join(map(str, self.shape))


def output_of(block: Block, structure: Structure, model: nn.Module, samples: int | None) -> Output:
    """The output of a block's call; `samples` is the batch size where the user gives one."""
    shape = tuple(block.call.node.meta["shape"])
    return Output(shape, spatial_dims(block.call, model), block.call.layer in structure.recurrent, samples)


def objection(block: Block, structure: Structure, model: nn.Module) -> str | None:
    """Why no kind of norm can stand behind a block; None where one can."""
    call = block.call
    if call.layer in structure.recurrent and not _all_steps_are_blocks(call, structure):
        return "it is stepped, and its norm would have to stand behind the sum of that step's layers, where none is put"
    if call.module is not None and _is_bound(model.get_submodule(call.module)):
        return "its weight is bound by a parametrization, which a norm would undo"
    if call.node.meta["dtype"].is_complex:
        return "norms have no complex form"
    if call.module is None and _has_channels_elsewhere(call):
        size = "x".join(map(str, call.node.meta["shape"]))
        return f"its channels are not the last dimension of its output ({size}), where norms expect them"
    return None


def _all_steps_are_blocks(call: Call, structure: Structure) -> bool:
    """Whether each step of a recurrence sends this layer's output, and no sum of it with another's, on to the
    activation."""
    calls = {one for one in structure.calls if one.layer == call.layer}
    return calls <= {block.call for block in structure.blocks}


def _has_channels_elsewhere(call: Call) -> bool:
    """Whether a functional layer's output has its channels anywhere but last, as that of `W @ x` has: only `x @ W` and
    its like, `F.linear` and convolutions are known to be right."""
    name = operation_name(call.node)
    if name.startswith(("linear", "bilinear", "conv")):
        return False
    if name == "einsum":
        return not _ends_in_channels(call.node)
    data, _ = factors(call.node)
    weight = data[0] if name not in ("addmm", "addbmm", "baddbmm") else call.node.args[1]
    return isinstance(weight, fx.Node) and "shape" in weight.meta and _is_parameter(weight)


def _ends_in_channels(node: fx.Node) -> bool:
    """Whether the last index of an einsum's result is one that the weight alone has: `bi,io->bo`."""
    equation, tensors = node.args[0], node.args[1:]
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not isinstance(equation, str) or "->" not in equation:
        return False
    terms, result = equation.replace(" ", "").split("->")
    owners = [part for term, part in zip(terms.split(","), tensors, strict=True) if result[-1:] and result[-1] in term]
    return bool(owners) and all(isinstance(part, fx.Node) and _is_parameter(part) for part in owners)


def _is_parameter(node: fx.Node) -> bool:
    """Whether a value is computed from parameters alone."""
    return node.op == "get_attr" or (bool(node.all_input_nodes) and all(map(_is_parameter, node.all_input_nodes)))


def _is_bound(module: nn.Module) -> bool:
    """Whether the weight is computed from other tensors so that it has some property, as with spectral norm. Weight
    norm gives it none: only length and direction of each row are parameters of their own, and the length is void
    behind a batch norm."""
    if parametrize.is_parametrized(module, "weight"):
        steps = module.parametrizations["weight"]  # type: ignore[index]
        return {type(step).__name__ for step in steps} != {"_WeightNorm"}
    return hasattr(module, "weight_orig")
