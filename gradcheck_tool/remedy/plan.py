"""Chains → a plan: which norm goes behind which call of a weight layer, or the reason why none does.

The plan is data: it is printed, applied to a graph and written to a file, all from the same values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from gradcheck_tool.chains import Block, Call, Structure, decompose, forest, location_of
from gradcheck_tool.ops import factors, operation_name
from gradcheck_tool.results import Insertion, Location, Skip

if TYPE_CHECKING:
    import networkx as nx

_BATCH_NORMS = {0: "BatchNorm1d", 1: "BatchNorm1d", 2: "BatchNorm2d", 3: "BatchNorm3d"}
"""torch.nn's batch norm, by the number of spatial dimensions."""


def plan_batch_norm(
    structure: Structure, model: nn.Module, min_depth: int, births: Mapping[str, Location]
) -> tuple[tuple[Insertion, ...], tuple[Skip, ...]]:
    """A batch norm behind each block of every chain of at least `min_depth`, in the order in which the calls ran.

    Where a block in front of a fork takes no norm, its run goes on along another way once the first way has norms: that
    is covered too, so that there is nothing left to fix afterwards.
    """
    objections: dict[Block, str | None] = {}
    if not structure.blocks:
        return (), ()
    left = forest(structure.blocks)
    while wanted := _in_chains(left, min_depth) - objections.keys():
        objections |= {block: _objection(block, structure, model) for block in wanted}
        left.remove_nodes_from([block for block in wanted if objections[block] is None])
    insertions: list[Insertion] = []
    skips: list[Skip] = []
    for block in structure.blocks:
        if block not in objections:
            continue
        reason = objections[block]
        if reason is not None:
            skips.append(Skip(block.name, reason))
            continue
        spatial = _spatial_dims(block.call, model)
        features = block.call.node.meta["shape"][-1 - spatial]
        insertions.append(Insertion(block.name, _BATCH_NORMS[spatial], features, location_of(block.call, births)))
    return tuple(insertions), tuple(skips)


def _in_chains(blocks: nx.DiGraph, min_depth: int) -> set[Block]:
    return {block for chain in decompose(blocks) if len(chain) >= min_depth for block in chain}


def _spatial_dims(call: Call, model: nn.Module) -> int:
    """0 behind a Linear, 1 to 3 behind a convolution."""
    weight = getattr(model.get_submodule(call.module), "weight", None) if call.module else None
    if call.module is not None and isinstance(model.get_submodule(call.module), (nn.Linear, nn.Bilinear)):
        return 0
    if call.module is None:
        name = getattr(call.node.target, "__name__", str(call.node.target))
        if not name.startswith("conv"):
            return 0
        weight = model.get_parameter(call.parameter)
    assert isinstance(weight, torch.Tensor)
    return weight.dim() - 2


def _objection(block: Block, structure: Structure, model: nn.Module) -> str | None:
    """Why batch norm does not fit behind a block; None where it does."""
    call = block.call
    shape, dtype = call.node.meta["shape"], call.node.meta["dtype"]
    if call.layer in structure.recurrent:
        return "it is stepped: one batch norm over all steps would mix statistics that change from step to step"
    if call.module is not None and _is_reparametrized(model.get_submodule(call.module)):
        return "its weight is normalized or parametrized already, which batch norm would undo"
    if dtype.is_complex:
        return "batch norm has no complex form"
    spatial = _spatial_dims(call, model)
    size = "x".join(map(str, shape))
    if call.module is None and _has_channels_elsewhere(call):
        return f"its channels are not the last dimension of its output ({size}), where batch norm expects them"
    if len(shape) == spatial + 1:
        return f"its output ({size}) has no batch dimension"
    if len(shape) > spatial + 2:
        return f"its output ({size}) is a sequence: batch norm would take the wrong axis for channels; layer norm fits"
    if math.prod(shape) == shape[1]:
        return f"its output ({size}) has one value per channel, of which there is no variance; two samples have one"
    return None


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


def _is_reparametrized(module: nn.Module) -> bool:
    return (
        parametrize.is_parametrized(module, "weight") or hasattr(module, "weight_g") or hasattr(module, "weight_orig")
    )


def covered(chains: Sequence[Sequence[Block]], min_depth: int) -> list[list[str]]:
    """The layer names of the chains that a fix covers: what before and after are measured over."""
    return [[block.name for block in chain] for chain in chains if len(chain) >= min_depth]
