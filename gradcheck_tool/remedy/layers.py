"""Weight layers that a remedy changes: whether one may be changed at all, its weight as a matrix and back, and a copy
of a captured graph in which some parameters are new."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, Structure, analyze
from gradcheck_tool.holdings import held_by
from gradcheck_tool.operands import factors
from gradcheck_tool.ops import Kind, operation_name
from gradcheck_tool.parametrized import is_computed, still

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FLIPS = ("t", "T", "mT", "transpose")
_ENDS = (Kind.PASSING, Kind.MIXING, Kind.ACTIVATION, Kind.SOFTMAX, Kind.CONSTANT)
_PRODUCTS = ("matmul", "mm", "__matmul__", "addmm")


@dataclass(frozen=True)
class Layout:
    """How a weight lies in its tensor: (out, in / groups, *kernel), or where `flipped` (in, out / groups, *kernel), as
    those of transposed convolutions and of `x @ W` do. `taps` is the number of products that an output element sums for
    each entry of the fan-in: 1, less for a transposed convolution with a stride, which leaves some of them out."""

    groups: int = 1
    flipped: bool = False
    taps: float = 1.0

    def matrices(self, weight: Tensor) -> Tensor:
        """`weight` as (groups, outputs per group, fan-in)."""
        by_group = weight.reshape(self.groups, weight.shape[0] // self.groups, weight.shape[1], -1)
        return (by_group.transpose(1, 2) if self.flipped else by_group).flatten(2)

    def tensor(self, matrices: Tensor, shape: torch.Size) -> Tensor:
        """What `matrices` was made from, of that shape."""
        groups, outputs, _ = matrices.shape
        inputs = shape[0] // groups if self.flipped else shape[1]
        by_group = matrices.reshape(groups, outputs, inputs, -1)
        return (by_group.transpose(1, 2) if self.flipped else by_group).reshape(shape)


def layout_of(call: Call, model: nn.Module) -> Layout | str:
    """How the weight of a call lies in its tensor, or why that is not known."""
    if call.module is not None:
        layer: Any = model.get_submodule(call.module)
        if isinstance(layer, nn.Linear):
            return Layout()
        if isinstance(layer, _TRANSPOSED):
            return Layout(layer.groups, True, 1.0 / math.prod(layer.stride))
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return Layout(layer.groups)
        return f"{type(layer).__name__} has no critical gain: its output is no linear function of one input"
    name = operation_name(call.node)
    if name.startswith("conv") and name != "convolution":
        return _layout_of_convolution(call.node, name)
    if name == "linear":
        given = factors(call.node)[1][0]
        return Layout(flipped=_is_flipped(given))
    if name in _PRODUCTS:
        data, weights = factors(call.node)
        for at, weight in enumerate(weights):
            if isinstance(weight, fx.Node) and _source(weight).target == call.parameter:
                return Layout(flipped=_is_flipped(weight) != (at == len(data) - 1))
    return f"it is written as {name}, which does not say which dimension of its weight is which"


def _layout_of_convolution(node: fx.Node, name: str) -> Layout | str:
    transposed = "transpose" in name
    at = 6  # in both argument lists
    groups = node.args[at] if len(node.args) > at else node.kwargs.get("groups", 1)
    if not isinstance(groups, int):
        return "the number of its groups is computed"
    if not transposed:
        return Layout(groups)
    stride: Any = node.args[3] if len(node.args) > 3 else node.kwargs.get("stride", 1)
    rank = int(name[len("conv_transpose")])
    return Layout(groups, True, 1.0 / (math.prod(stride) if isinstance(stride, (tuple, list)) else stride**rank))


def _is_flipped(node: Any) -> bool:
    flipped = False
    while isinstance(node, fx.Node) and node.op != "get_attr" and operation_name(node) in _FLIPS:
        node, flipped = node.args[0], not flipped
    return flipped


def _source(node: fx.Node) -> fx.Node:
    while node.op != "get_attr" and operation_name(node) in _FLIPS and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


class WeightLayers:
    """The weight layers of one model, as it stands: their parameters, and what forbids to change them."""

    def __init__(self, structure: Structure, model: nn.Module) -> None:
        self.structure = structure
        self.model = model
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self._modules = dict(model.named_modules(remove_duplicate=False))

    @cached_property
    def _held(self) -> Counter[int]:
        return Counter(id(tensor) for tensor in held_by(self.model).tensors())

    @cached_property
    def _embedded(self) -> frozenset[int]:
        """The parameters that are tables of embeddings too."""
        found = []
        for node, operation in self.structure.operations.items():
            if operation.kind is Kind.EMBEDDING and node.op == "call_module":
                found.append(id(self.parameters.get(f"{node.target}.weight")))
            elif operation.kind is Kind.EMBEDDING:
                found += [id(self.parameters.get(str(part.target))) for part in node.all_input_nodes]
        return frozenset(found)

    @cached_property
    def _read_elsewhere(self) -> frozenset[int]:
        """The parameters that forward reads itself though they are those of a module that it calls."""
        own = {id(self.parameters.get(call.parameter)) for call in self.structure.calls if call.module is not None}
        read = {id(self.parameters.get(str(node.target))) for node in self.structure.graph.find_nodes(op="get_attr")}
        return frozenset(own & read)

    def first_calls(self) -> Iterator[Call]:
        """The first call of every layer, in the order in which they ran."""
        seen: set[int] = set()
        for call in self.structure.calls:
            key = id(self.parameters.get(call.parameter, call))
            if key not in seen:
                seen.add(key)
                yield call

    def weight(self, call: Call) -> Tensor | None:
        """The parameter itself, where it is one."""
        return self.parameters.get(call.parameter)

    def objection(self, call: Call) -> str | None:
        """Why the gain of a call is not to be changed; None where it may be."""
        if call.layer in self.structure.recurrent:
            return "it is stepped: what its weights do depends on the number of steps"
        return self.objection_to_another(call)

    def objection_to_another(self, call: Call) -> str | None:
        """Why no other weight may stand in the place of a call's; None where one may."""
        weight = self.weight(call)
        if call.module is not None and is_computed(self._modules[call.module]):
            return "its weight is computed from other parameters (weight norm, spectral norm or a parametrization)"
        if weight is None:
            return "its weight is no parameter of the model"
        if weight.is_meta:
            return "its weight is on the meta device: there is nothing to read"
        if not weight.is_floating_point():
            return f"its weight is of {str(weight.dtype).removeprefix('torch.')}"
        if not weight.requires_grad:
            return "its weight is frozen"
        shared = id(weight) in self._embedded or id(weight) in self._read_elsewhere
        if shared or self._held[id(weight)] > 1:
            return "its weight is tied: another part of the model holds it too"
        if not weight.numel() or weight.dim() < 2:
            return f"its weight is of shape {tuple(weight.shape)}"
        layout = layout_of(call, self.model)
        return layout if isinstance(layout, str) else None

    def bias(self, call: Call, inside: Iterable[fx.Node] = ()) -> str | None:
        """The name of the trainable parameter that is added to a layer's output, held nowhere else: the layer's own,
        the argument of a function, or b of `x @ W + b`, which is among the nodes `inside` its block."""
        name: str | None = None
        if call.module is not None:
            name = f"{call.module}.bias"
        else:
            operation, node = operation_name(call.node), call.node
            at = 0 if operation == "addmm" else 2 if operation.startswith(("linear", "conv")) else None
            given = None
            if at is not None:
                given = node.args[at] if len(node.args) > at else node.kwargs.get("bias", node.kwargs.get("input"))
            candidates = [given, *(part for inner in inside if self._adds(inner) for part in inner.args[:2])]
            nodes = [part for part in candidates if isinstance(part, fx.Node) and part.op == "get_attr"]
            name = str(nodes[0].target) if len(nodes) == 1 else None
        bias = self.parameters.get(name) if name else None
        if bias is None or not bias.requires_grad or self._held[id(bias)] > 1:
            return None
        return name

    def _adds(self, node: fx.Node) -> bool:
        return self.structure.operations[node].kind is Kind.SUM and operation_name(node) in ("add", "__add__", "iadd")

    def is_normalized_behind(self, call: Call) -> bool:
        """Whether all that reads a call's output are normalizations, through passing ops, so that its scale is void."""
        pending, seen, norms = [call.node], set(), False
        while pending:
            node = pending.pop()
            for user in self.structure.flow.users[node]:
                operation = self.structure.operations.get(user)
                if user in seen:
                    continue
                seen.add(user)
                if operation is not None and (
                    operation.kind is Kind.NORMALIZATION or user in self.structure.forms.norms
                ):
                    norms = True
                elif operation is not None and operation.kind is Kind.PASSING:
                    pending.append(user)
                else:
                    return False
        return norms

    def feeds_output_alone(self, call: Call) -> bool:
        """Whether a call's output goes to the model's output, through no other layer and no join."""
        pending, seen, reached = [call.node], {call.node}, False
        while pending:
            node = pending.pop()
            for user in self.structure.flow.users[node]:
                operation = self.structure.operations.get(user)
                if user.op == "output":
                    reached = True
                elif operation is None or operation.kind not in _ENDS:
                    return False
                elif user not in seen:
                    seen.add(user)
                    pending.append(user)
        return reached


# -- a copy with other parameters -------------------------------------------------------------------------------------


def shared_copy(captured: CapturedModule) -> CapturedModule:
    """A copy of `captured` that shares all of its tensors."""
    return copy.deepcopy(captured, {id(tensor): tensor for tensor in held_by(captured).tensors()})


def calls_of(captured: CapturedModule) -> list[dict[str, Call]]:
    """The weight-layer calls of each of the graphs, by their names."""
    return [{call.name: call for call in analyze(graph, captured).calls} for graph in captured.graphs]


def call_named(name: str, calls: Iterable[Mapping[str, Call]]) -> list[Call]:
    """The calls of that name in each graph that has one.

    Raises:
        KeyError: none has.
    """
    found = [named[name] for named in calls if name in named]
    if not found:
        raise KeyError(f"no call {name} in the captured graph")
    return found


def replace_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Puts a new parameter of `value` in the place of the one of that qualified name, in its memory format, on its
    device and in its dtype. Whoever else holds the old one keeps it.

    Raises:
        KeyError: there is no such parameter.
    """
    prefix, _, key = name.rpartition(".")
    owner = model.get_submodule(prefix)
    old = owner._parameters.get(key)
    if old is None:
        raise KeyError(f"no parameter {name} in the captured graph")
    new = torch.empty_like(old, requires_grad=False).copy_(value)
    owner._parameters[key] = nn.Parameter(new, requires_grad=old.requires_grad)
    owner._parameters[key].__dict__.update(old.__dict__)  # what others noted on it: `no_weight_decay` and the like


def weight_of(call: Call, model: nn.Module) -> Tensor:
    """The weight that a call multiplies with, also where its layer computes it from other parameters."""
    weight = still(model.get_submodule(call.module)) if call.module is not None else model.get_parameter(call.parameter)
    assert isinstance(weight, Tensor)
    return weight


def free_name(wanted: str, model: nn.Module) -> str:
    """`wanted`, or with a number behind it that makes it free among the model's attributes; dots are kept, and stand
    for submodules."""
    prefix, _, base = wanted.rpartition(".")
    owner = model.get_submodule(prefix)
    name, count = base, 1
    while hasattr(owner, name):
        count += 1
        name = f"{base}_{count}"
    return f"{prefix}.{name}" if prefix else name
