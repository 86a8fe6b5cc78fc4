"""One pass forward and backward through a model → `GradientProfile`. The model is left as it was.

The gradient of each weight layer's output comes from a tensor hook that is set the moment the output is computed, so
that an activation that works in place does no harm. All norms are accumulated in float64.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.capturing import forward_error, observe
from gradcheck_tool.capturing.recorder import record
from gradcheck_tool.chains import Call, Structure, analyze
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.ops import Kind
from gradcheck_tool.probing.backward import Loss, floating_in, grad_norms, kind_of, roots_of
from gradcheck_tool.probing.changes import decades_between, growth, largest_change, shrinkage
from gradcheck_tool.probing.magnitudes import floor, norm
from gradcheck_tool.probing.saturation import ActivationFigures, active, bounds, channel_dim, figures
from gradcheck_tool.probing.zeros import explain_zeros
from gradcheck_tool.results import GradientProfile, LayerGradient, ProbeOutput
from gradcheck_tool.state import preserved, training_mode
from gradcheck_tool.structures import map_tensors
from gradcheck_tool.verdict import Evidence, judge
from gradcheck_tool.wording import in_short

_FRAGILE = (Kind.ACTIVATION, Kind.NORMALIZATION, Kind.SOFTMAX)
"""The calls besides weight layers whose output is checked, so that log(0) is named and not the layer behind it."""

__all__ = ["decades_between", "norm", "probe"]


def probe(
    model: nn.Module,
    inputs: Inputs,
    *,
    loss_fn: Loss | None = None,
    targets: Any = None,
    seed: int = 0,
    structure: Structure | None = None,
    over: Sequence[Sequence[str]] | None = None,
) -> GradientProfile:
    """Measures the gradient norms of every weight layer in training mode, in one pass forward and backward.

    Args:
        model: with real weights; left as it was.
        inputs: the batch.
        loss_fn: `loss_fn(output, targets)`; without it the loss is a random projection of every floating output.
        seed: of the projection, and of whatever the model draws.
        structure: the analysis of the same model on the same inputs, where it is there already.
        over: the chains, by layer names, over which the change is measured; those of `structure` where None.

    Raises:
        GradtoolError: the model raises, has no weights, or gives nothing that a gradient can be taken of.
    """
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise GradtoolError(
            "the model's weights are on the meta device: there is nothing to measure", hint="audit it instead"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise GradtoolError(
            f"no parameter of {type(model).__name__} requires a gradient, so there is none to measure",
            hint="unfreeze what is to be trained: model.requires_grad_(True)",
        )
    with training_mode(model):
        if structure is None:
            structure = analyze(observe(model, inputs).graph, model)
        with preserved(model, values=True):
            first = _Pass(model, inputs, structure, loss_fn, targets, seed)
            output, graph = first.forward()
            if _same_calls(graph, structure.graph):
                return first.measure(output, over)
        # With real values the model went another way than without them: its figures belong to that way's calls.
        structure = analyze(graph, model)
        with preserved(model, values=True):
            second = _Pass(model, inputs, structure, loss_fn, targets, seed)
            return second.measure(second.forward()[0], over)


def seed_all(seed: int) -> None:
    """Seeds all that a model may draw from: torch, Python, and numpy where it is loaded. Use inside `preserved`."""
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _same_calls(graph: fx.Graph, other: fx.Graph) -> bool:
    """Whether the same calls made the tensors of both graphs, under the same names."""

    def calls(of: fx.Graph) -> list[tuple[str, str, object]]:
        return [(n.op, n.name, n.target) for n in of.nodes if n.op.startswith("call") and "shape" in n.meta]

    return calls(graph) == calls(other)


@dataclass
class _Seen:
    """What the hooks and the observer noted during the pass, by the name of the call or of the node."""

    output_grads: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    activations: dict[str, ActivationFigures] = field(default_factory=dict)
    fed: dict[str, Tensor] = field(default_factory=dict)
    returned: dict[str, Tensor] = field(default_factory=dict)
    first_non_finite: str | None = None


class _Pass:
    def __init__(
        self, model: nn.Module, inputs: Inputs, structure: Structure, loss_fn: Loss | None, targets: Any, seed: int
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.structure = structure
        self.loss_fn = loss_fn
        self.targets = targets
        self.seed = seed
        self.seen = _Seen()
        self.known: set[int] = set()  # the tensors of the model's own code, which live as long as the recording
        self.calls = {call.node.name: call for call in structure.calls}
        self.activations: dict[str, list[tuple[Call, fx.Node]]] = {}
        self.feeding: dict[str, list[tuple[Call, str]]] = {}
        for call, node in structure.activation_of.items():
            self.activations.setdefault(node.name, []).append((call, node))
            for source in node.all_input_nodes[:1]:
                self.feeding.setdefault(source.name, []).append((call, node.name))
        self.fragile = {node.name: op.name for node, op in structure.operations.items() if op.kind in _FRAGILE}
        self.returned = _returned(structure.graph)
        self.named = dict(model.named_parameters(remove_duplicate=False))

    def forward(self) -> tuple[Any, fx.Graph]:
        """Runs the model. Returns what it returned and the graph of what ran."""
        args, kwargs = map_tensors((self.inputs.args, dict(self.inputs.kwargs)), lambda tensor: tensor.detach().clone())
        seed_all(self.seed)
        try:
            with torch.enable_grad():
                recording, output = record(self.model, args, kwargs, observer=self.watch)
        except Exception as error:  # the border to the user's code
            raise forward_error(error, self.model, self.inputs) from error
        return output, recording.graph

    def measure(self, output: Any, over: Sequence[Sequence[str]] | None) -> GradientProfile:
        """Goes backward from `output` and puts the figures together."""
        weights = {call.layer: self.parameters_of(call) for call in self.structure.calls}
        finite, grads = self.backward(output, [p for owned in weights.values() for p in owned])
        layers = tuple(self.layer(call, weights[call.layer], grads) for call in self.structure.calls)
        chains = over if over is not None else [[block.name for block in chain] for chain in self.structure.chains]
        decades, between = largest_change(layers, chains, self.seen.floors)
        missing = self.without_gradient(weights, grads)
        grown, grown_over = growth(layers)
        too_small = [layer.name for layer in layers] if decades == -math.inf else []
        verdict, reasons = judge(
            Evidence(
                layers,
                decades,
                between,
                along_chain=any(len(chain) > 1 for chain in chains),
                shrinkage=shrinkage(layers),
                growth=grown,
                growth_over=grown_over,
                non_finite=self.non_finite(finite, layers),
                without_gradient=missing,
                zeros=explain_zeros(layers, self.structure, self.model, too_small),
            )
        )
        reasons = (*reasons, *self.not_measured())
        return GradientProfile(
            verdict=verdict,
            reasons=reasons,
            loss="random-projection" if self.loss_fn is None else "user",
            batch_size=batch_size(self.inputs),
            batches=1,
            seed=self.seed,
            layers=layers,
            measured_decades=decades,
            measured_over=between,
            output=ProbeOutput(kind_of(output), finite),
        )

    # -- forward ------------------------------------------------------------------------------------------------------

    def watch(self, node: fx.Node, tensor: Tensor) -> None:
        """Sees every tensor at the moment at which it is computed."""
        call = self.calls.get(node.name)
        if call is not None:
            self.note_finite(tensor, f"the output of {call.name}")
            if tensor.requires_grad:
                self.seen.floors[call.name] = floor(tensor)
                self.before_writes(tensor).register_hook(partial(_add_grad, self.seen.output_grads, call.name))
        self.known.add(id(tensor))
        for call, activation in self.feeding.get(node.name, ()):
            self.seen.fed[f"{activation} {call.name}"] = active(tensor.detach(), channel_dim(tensor, call, self.model))
        for call, function in self.activations.get(node.name, ()):
            self.note_finite(tensor, f"the output of {self.structure.operations[function].name} after {call.name}")
            fed = self.seen.fed.get(f"{function.name} {call.name}")
            channel = channel_dim(tensor, call, self.model)
            found = figures(tensor.detach(), fed, channel, bounds(function, self.model))
            if found is not None:
                self.seen.activations[call.name] = found
        if node.name in self.fragile and tensor.requires_grad:  # a mask may well hold infinities
            self.note_finite(tensor, f"the output of {self.fragile[node.name]}")
        if node.name in self.returned:
            self.seen.returned[node.name] = tensor

    def before_writes(self, tensor: Tensor) -> Tensor:
        """What to hook for the gradient of a layer's output as it was computed.

        That is the output, unless it is a view of all of a tensor that the layer made inside, as that of a Linear on
        sequences is: a write into a view (`relu_`) makes its history anew, without its hooks, but keeps the base's.
        """
        base = tensor._base
        whole = base is not None and base.requires_grad and base.numel() == tensor.numel()
        return base if base is not None and whole and id(base) not in self.known else tensor

    def note_finite(self, tensor: Tensor, what: str) -> None:
        if self.seen.first_non_finite is None and tensor.numel() and not bool(torch.isfinite(tensor.detach()).all()):
            self.seen.first_non_finite = what

    # -- backward -----------------------------------------------------------------------------------------------------

    def parameters_of(self, call: Call) -> list[nn.Parameter]:
        """The trainable tensors behind a layer's weight: itself, or what a parametrization computes it from."""
        if call.parameter in self.named:
            return [self.named[call.parameter]]
        if call.module is None:
            return []
        module = self.model.get_submodule(call.module)
        return [p for name, p in module.named_parameters() if not name.endswith("bias") and ".bias." not in f".{name}"]

    def backward(self, output: Any, parameters: list[nn.Parameter]) -> tuple[bool, dict[int, float]]:
        """Whether the outputs (and the loss) are finite, and the norms of the gradients by id: those of `parameters`,
        and with the user's loss those of the tensors that the model returned."""
        with torch.enable_grad():
            roots, cotangents = roots_of(output, self.loss_fn, self.targets, self.seed)
        finite = all(bool(torch.isfinite(tensor.detach()).all()) for tensor in (*floating_in(output), *roots))
        if not any(root.requires_grad for root in roots):
            return finite, {}
        leaves: list[Tensor] = [parameter for parameter in parameters if parameter.requires_grad]
        if not leaves or self.passes_frozen_layers():
            leaves = [tensor for tensor in self.model.parameters() if tensor.requires_grad]
        if self.loss_fn is not None:
            leaves += [tensor for tensor in self.seen.returned.values() if tensor.requires_grad]
        try:
            return finite, grad_norms(roots, leaves, cotangents)
        except RuntimeError as error:
            raise blamed(error, f"backward of {type(self.model).__name__}") from error

    def passes_frozen_layers(self) -> bool:
        """Whether a gradient goes through a layer whose weight is frozen, to biases or norms beneath. autograd computes
        none but what is asked for: the gradient of that layer's output comes only on the way to them."""
        return any(
            call.name in self.seen.floors and not any(weight.requires_grad for weight in self.parameters_of(call))
            for call in self.structure.calls
        )

    # -- what came of it ----------------------------------------------------------------------------------------------

    def layer(self, call: Call, weights: list[nn.Parameter], grads: Mapping[int, float]) -> LayerGradient:
        found = [grads[id(weight)] for weight in weights if id(weight) in grads]
        seen = self.seen.activations.get(call.name)
        return LayerGradient(
            name=call.name,
            grad_norm=math.hypot(*found) if found else None,
            output_grad_norm=self.seen.output_grads.get(call.name),
            weight_norm=math.hypot(*(norm(weight) for weight in weights)) if weights else None,
            activation_mean=seen.mean if seen else None,
            activation_std=seen.std if seen else None,
            dead_fraction=seen.dead if seen else None,
            saturated_fraction=seen.saturated if seen else None,
        )

    def not_measured(self) -> list[str]:
        """torch's fused recurrent layers have weights, and no calls of weight layers that could be measured."""
        fused = [node for node, op in self.structure.operations.items() if op.kind is Kind.RECURRENT]
        names = list(dict.fromkeys(str(node.target) for node in fused if node.op == "call_module"))
        return [f"not measured: {in_short(names)}, whose steps run fused"] if names else []

    def non_finite(self, outputs_finite: bool, layers: Sequence[LayerGradient]) -> str | None:
        if self.seen.first_non_finite is not None:
            return self.seen.first_non_finite
        if not outputs_finite:
            return "the output or the loss"
        for layer in reversed(layers):
            for figure, what in ((layer.output_grad_norm, "output"), (layer.grad_norm, "weight")):
                if figure is not None and not math.isfinite(figure):
                    return f"the gradient of the {what} of {layer.name}"
        return None

    def without_gradient(self, weights: Mapping[str, list[nn.Parameter]], grads: Mapping[int, float]) -> list[str]:
        """Trainable weight layers that autograd gave nothing, though they are on a path to an output that counts."""
        used = {name for name, tensor in self.seen.returned.items() if id(tensor) in grads}
        reaching = _reaching(self.structure.graph, used) if used else self.structure.reaches_output
        reached = {call.layer for call in self.structure.calls if call.node in reaching}
        return [
            layer
            for layer, owned in weights.items()
            if layer in reached
            and any(weight.requires_grad for weight in owned)
            and not any(id(weight) in grads for weight in owned)
        ]


def _add_grad(grads: dict[str, float], name: str, grad: Tensor) -> None:
    """A hook that knows nothing of the pass: one that did would tie its tensors, through autograd, into a circle that
    Python's collector cannot see, and the model would never be freed."""
    grads[name] = math.hypot(grads.get(name, 0.0), norm(grad))


def _returned(graph: fx.Graph) -> set[str]:
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


def _reaching(graph: fx.Graph, ends: set[str]) -> set[fx.Node]:
    """The nodes from which a path leads to one of those named `ends`."""
    reaching: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.name in ends or any(user in reaching for user in node.users):
            reaching.add(node)
    return reaching
