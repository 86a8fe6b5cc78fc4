"""Biases that the norms of a plan make void: which they are, and a fixed module without them.

Batch and instance norm subtract the mean of each channel, and with it whatever constant the layer before them adds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase

from gradcheck_tool.biases import calls_by_bias
from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.holdings import held_by
from gradcheck_tool.results import Insertion
from gradcheck_tool.state import training_mode


def void_biases(structure: Structure, model: nn.Module, plan: Sequence[Insertion]) -> tuple[str, ...]:
    """The layers of `model`, by their qualified names, whose trainable bias has no effect in training once the batch
    or instance norms of `plan` stand behind them: behind every call, and the bias is nobody else's.

    A layer that stays in evaluation mode while its model trains is none: its norm will evaluate as well, and subtract a
    stored mean.
    """
    planned = {insertion.after for insertion in plan if insertion.norm.startswith(("BatchNorm", "InstanceNorm"))}

    def is_covered(call: Call) -> bool:
        return call.module is not None and call.name in planned and model.get_submodule(call.module).training

    with training_mode(model):
        return tuple(calls[0].layer for calls in calls_by_bias(structure, model) if all(map(is_covered, calls)))


def drop_biases(fixed: CapturedModule, names: Iterable[str]) -> CapturedModule:
    """A copy of `fixed`, which shares its tensors, in which the layers of these names have no bias: what a plan's norms
    were inserted into. In training it computes what `fixed` computes.

    A layer that evaluation calls without a norm, or whose bias it reads, keeps its bias.

    Raises:
        KeyError: there is no such layer with a bias.
    """
    bare = copy.deepcopy(fixed, {id(tensor): tensor for tensor in held_by(fixed).tensors()})
    modules = dict(bare.named_modules(remove_duplicate=False))
    needed = {name for graph in bare.graphs for name in _needed_biases(graph, modules)}
    for name in names:
        if name not in modules or modules[name]._parameters.get("bias") is None:
            raise KeyError(f"no layer {name} with a bias in the fixed module")
        if name not in needed:
            modules[name].register_parameter("bias", None)
    return bare


def _needed_biases(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    """The layers whose bias a graph reads itself, or whose output anything but such a norm reads."""
    for node in graph.nodes:
        if node.op == "get_attr":
            yield str(node.target).removesuffix(".bias")
        elif node.op == "call_module" and not all(_subtracts_mean(user, modules) for user in node.users):
            yield str(node.target)


def _subtracts_mean(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], _NormBase)
