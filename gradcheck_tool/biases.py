"""Biases that are void: which ones nothing but calls of weight layers adds, and where a norm subtracts them again.

A bias is one number per channel, added to all of the channel's values. What subtracts the channel's mean takes it out
again: (Wx + b) − E[Wx + b] = Wx − E[Wx]. (Ioffe & Szegedy 2015, Batch Normalization, section 3.2.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.holdings import held_by
from gradcheck_tool.state import preserved, training_mode

_FUNCTIONS = {"linear": (2, 0), "bilinear": (3, 0)} | {
    f"{kind}{dims}d": (2, dims) for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)
}
"""Functional layers: which argument is the bias, and the number of spatial dimensions."""
_INSTANCE_NORMS = ((nn.InstanceNorm1d, 3), (nn.InstanceNorm2d, 4), (nn.InstanceNorm3d, 5))
"""With the rank of a batch: where there is one dimension less, they take the first for the channels."""
_FUNCTIONAL_NORMS = {"batch_norm": ("training", False, 2), "instance_norm": ("use_input_stats", True, 3)}
"""The sixth argument, which has them take the mean of what they are given, its default, and the least rank at which
that is a mean per channel."""


def calls_by_bias(structure: Structure, model: nn.Module) -> tuple[tuple[Call, ...], ...]:
    """For each trainable bias, the calls that add it to their output's channels (dimension 1), which are all that reads
    it.

    A bias that is held in two places (tied to another layer's, or kept in a list) is left out, and so is one of a layer
    with a forward hook: what that does with the output is in no graph.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    added: dict[int, list[Call]] = {}
    for call in structure.calls:
        bias = _bias_of(call, modules, parameters)
        if bias is not None and bias.requires_grad:
            added.setdefault(id(bias), []).append(call)
    if not added:
        return ()
    readers: dict[int, set[fx.Node]] = {}
    for node in structure.graph.nodes:
        if node.op == "get_attr" and node.target in parameters:
            readers.setdefault(id(parameters[node.target]), set()).update(node.users)
    held = Counter(id(tensor) for tensor in held_by(model).tensors())
    return tuple(
        tuple(calls)
        for key, calls in added.items()
        if held[key] == 1
        and readers.get(key, set()) <= {call.node for call in calls}
        and all(_adds_per_channel(call, modules) for call in calls)
    )


def void_calls(structure: Structure, model: nn.Module) -> list[Call]:
    """The first call that adds each bias that is subtracted again wherever it is added, when `model` trains: all that
    reads the output are batch or instance norms, with nothing but nn.Identity before them."""
    if not _has_such_norms(structure, model):
        return []
    candidates = calls_by_bias(structure, model)
    with training_mode(model):
        found = _subtracted(candidates, structure, model)
    if found and any(type(module).train is not nn.Module.train for module in model.modules()):
        with preserved(model):  # one that was never told to train yet may put norms in evaluation when it is
            model.train()
            found = _subtracted(found, structure, model)
    return [calls[0] for calls in found]


def _has_such_norms(structure: Structure, model: nn.Module) -> bool:
    """Whether there is a batch or an instance norm: asked first, since most other models need no more."""
    return any(isinstance(module, _NormBase) for module in model.modules()) or any(
        _function_name(node) in _FUNCTIONAL_NORMS for node in structure.operations
    )


def _subtracted(
    candidates: Sequence[tuple[Call, ...]], structure: Structure, model: nn.Module
) -> list[tuple[Call, ...]]:
    """Those of the `candidates` all of whose calls feed norms alone that subtract the mean, in the mode that each is
    in."""
    modules = dict(model.named_modules(remove_duplicate=False))
    switched = _switched(structure.graph)
    return [calls for calls in candidates if all(_is_subtracted(call.node, modules, switched) for call in calls)]


# -- the bias of a call -----------------------------------------------------------------------------------------------


def _bias_of(
    call: Call, modules: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter]
) -> nn.Parameter | None:
    if call.module is not None:
        return modules[call.module]._parameters.get("bias")
    at, _ = _FUNCTIONS.get(_function_name(call.node), (0, 0))
    if not at:
        return None
    given = call.node.args[at] if len(call.node.args) > at else call.node.kwargs.get("bias")
    return parameters.get(str(given.target)) if isinstance(given, fx.Node) and given.op == "get_attr" else None


def _adds_per_channel(call: Call, modules: Mapping[str, nn.Module]) -> bool:
    """Whether the output's dimension 1 is that of the bias: not without a batch, nor behind a Linear on sequences."""
    if call.module is None:
        _, spatial = _FUNCTIONS[_function_name(call.node)]
    else:
        layer = modules[call.module]
        if layer._forward_hooks:
            return False
        spatial = len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0
    return len(call.node.meta["shape"]) == spatial + 2


def _function_name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


# -- what takes it out again ------------------------------------------------------------------------------------------


def _switched(graph: fx.Graph) -> frozenset[str]:
    """The modules that forward itself puts in a mode."""
    holders = [
        node.args[0] for node in graph.find_nodes(op="call_function", target=setattr) if node.args[1] == "training"
    ]
    return frozenset(str(holder.target) for holder in holders if isinstance(holder, fx.Node))


def _is_subtracted(node: fx.Node, modules: Mapping[str, nn.Module], switched: frozenset[str]) -> bool:
    """Whether a number per channel, added to a node's value, is subtracted again by all that reads it."""
    return bool(node.users) and all(
        _is_subtracted(user, modules, switched)
        if user.op == "call_module" and type(modules[str(user.target)]) is nn.Identity and not _is_hooked(user, modules)
        else _subtracts_mean(user, node, modules, switched)
        for user in node.users
    )


def _is_hooked(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    module = modules[str(node.target)]
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _subtracts_mean(node: fx.Node, source: fx.Node, modules: Mapping[str, nn.Module], switched: frozenset[str]) -> bool:
    """Whether a call is a norm of `source`, and takes nothing else from it, that subtracts each channel's mean."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    rest = (*node.args[1:], *(value for key, value in node.kwargs.items() if key != "input"))
    if first is not source or any(value is source for value in rest):
        return False
    rank = len(source.meta["shape"])
    if node.op == "call_module":
        name = str(node.target)
        return name not in switched and not _is_hooked(node, modules) and _takes_own_mean(modules[name], rank)
    if _function_name(node) not in _FUNCTIONAL_NORMS:
        return False
    key, default, least = _FUNCTIONAL_NORMS[_function_name(node)]
    return rank >= least and (node.args[5] if len(node.args) > 5 else node.kwargs.get(key, default)) is True


def _takes_own_mean(module: nn.Module, rank: int) -> bool:
    """Whether a norm, in its mode, subtracts the mean of the batch per channel: one that evaluates subtracts a stored
    mean, before which a bias is a number like any other."""
    if isinstance(module, _BatchNorm):
        return module.training or (module.running_mean is None and module.running_var is None)
    if any(isinstance(module, kind) and rank == of_batch for kind, of_batch in _INSTANCE_NORMS):
        return bool(module.training or not module.track_running_stats)
    return False
