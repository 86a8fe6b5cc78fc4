"""What is noted of every tensor at the moment at which it is computed, and of its gradient when that comes.

The gradient of each weight layer's output comes from a tensor hook that is set at once, so that an activation that
works in place does no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.operands import operands
from gradcheck_tool.ops import Kind
from gradcheck_tool.probing.magnitudes import floor, norm
from gradcheck_tool.probing.samples import SampleFigures, effective_rank, sample_figures
from gradcheck_tool.probing.saturation import ActivationFigures, active, bounds, channel_dim, figures

_FRAGILE = (Kind.ACTIVATION, Kind.NORMALIZATION, Kind.SOFTMAX)
"""The calls besides weight layers whose output is checked, so that log(0) is named and not the layer behind it."""


@dataclass
class Seen:
    """By the name of the call or of the node: norms of the gradients of outputs, the norms below which these hold
    nothing but zeros, what an activation put out, which units had anything go into it, what the model returned, and how
    much of the differences between samples goes into each layer. And where the first value was that is not finite."""

    output_grads: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    activations: dict[str, ActivationFigures] = field(default_factory=dict)
    fed: dict[str, Tensor] = field(default_factory=dict)
    returned: dict[str, Tensor] = field(default_factory=dict)
    entering: dict[str, SampleFigures | None] = field(default_factory=dict)
    rank: float | None = None
    first_non_finite: str | None = None


class Watch:
    """The observer of one forward pass."""

    def __init__(self, model: nn.Module, structure: Structure, batch: int | None) -> None:
        self.model = model
        self.structure = structure
        self.batch = batch
        self.seen = Seen()
        self.known: set[int] = set()  # the tensors of the model's own code, which live as long as the recording
        self.calls = {call.node.name: call for call in structure.calls}
        self.activations: dict[str, list[tuple[Call, fx.Node]]] = {}
        self.feeding: dict[str, list[tuple[Call, str]]] = {}
        for call, node in structure.activation_of.items():
            self.activations.setdefault(node.name, []).append((call, node))
            for source in [value for value in node.all_input_nodes if _is_floating(value)][:1]:  # a mask may come first
                self.feeding.setdefault(source.name, []).append((call, node.name))
        self.entering: dict[str, list[Call]] = {}
        for call in structure.calls:
            for source in operands(call.node):
                self.entering.setdefault(source.name, []).append(call)
        self.last = _last_call(structure)
        self.fragile = {node.name: op.name for node, op in structure.operations.items() if op.kind in _FRAGILE}
        self.returned = returned_by(structure.graph)

    def __call__(self, node: fx.Node, tensor: Tensor) -> None:
        """Sees a tensor at the moment at which it is computed."""
        call = self.calls.get(node.name)
        if call is not None:
            self._note_finite(tensor, f"the output of {call.name}")
            if tensor.requires_grad:
                self.seen.floors[call.name] = floor(tensor)
                self._before_writes(tensor).register_hook(partial(_add_grad, self.seen.output_grads, call.name))
        self.known.add(id(tensor))
        for call in self.entering.get(node.name, ()):
            self._note_samples(call, tensor)
        for call, activation in self.feeding.get(node.name, ()):
            self.seen.fed[f"{activation} {call.name}"] = active(tensor.detach(), channel_dim(tensor, call, self.model))
        for call, function in self.activations.get(node.name, ()):
            self._note_finite(tensor, f"the output of {self.structure.operations[function].name} after {call.name}")
            fed = self.seen.fed.get(f"{function.name} {call.name}")
            channel = channel_dim(tensor, call, self.model)
            found = figures(tensor.detach(), fed, channel, bounds(function, self.model))
            if found is not None:
                self.seen.activations[call.name] = found
        if node.name in self.fragile and tensor.requires_grad:  # a mask may well hold infinities
            self._note_finite(tensor, f"the output of {self.fragile[node.name]}")
        if node.name in self.returned:
            self.seen.returned[node.name] = tensor

    def _note_samples(self, call: Call, tensor: Tensor) -> None:
        """How far what goes into a layer differs between samples; of the last layer, in how many directions too."""
        if self.batch is None or tensor.dim() < 2 or len(tensor) != self.batch or isinstance(tensor, nn.Parameter):
            return
        self.seen.entering[call.name] = sample_figures(tensor)
        if call is self.last:
            self.seen.rank = effective_rank(tensor)

    def _before_writes(self, tensor: Tensor) -> Tensor:
        """What to hook for the gradient of a layer's output as it was computed.

        That is the output, unless it is a view of all of a tensor that the layer made inside, as that of a Linear on
        sequences is: a write into a view (`relu_`) makes its history anew, without its hooks, but keeps the base's.
        """
        base = tensor._base
        whole = base is not None and base.requires_grad and base.numel() == tensor.numel()
        return base if base is not None and whole and id(base) not in self.known else tensor

    def _note_finite(self, tensor: Tensor, what: str) -> None:
        if self.seen.first_non_finite is None and tensor.numel() and not bool(torch.isfinite(tensor.detach()).all()):
            self.seen.first_non_finite = what


def _add_grad(grads: dict[str, float], name: str, grad: Tensor) -> None:
    """A hook that knows nothing of the pass: one that did would tie its tensors, through autograd, into a circle that
    Python's collector cannot see, and the model would never be freed."""
    grads[name] = math.hypot(grads.get(name, 0.0), norm(grad))


def _is_floating(node: fx.Node) -> bool:
    dtype = node.meta.get("dtype")
    return dtype is None or dtype.is_floating_point or dtype.is_complex


def _last_call(structure: Structure) -> Call | None:
    """The last weight layer on a path to the output."""
    return next((call for call in reversed(structure.calls) if call.node in structure.reaches_output), None)


def returned_by(graph: fx.Graph) -> set[str]:
    """The names of the nodes whose tensors the model returns, alone or in a structure of its own."""
    names: set[str] = set()
    pending = [node for node in graph.nodes if node.op == "output"]
    while pending:
        for part in pending.pop().all_input_nodes:
            if "shape" in part.meta:
                names.add(part.name)
            else:
                pending.append(part)
    return names
