"""One pass forward and backward through a model → `GradientProfile`. The model is left as it was.

The gradient of each weight layer's output comes from a tensor hook that is set the moment the output is computed, so
that an activation that works in place does no harm. All norms are accumulated in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.capturing import forward_error, observe
from gradcheck_tool.capturing.recorder import record
from gradcheck_tool.chains import Call, Structure, analyze
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.results import GradientProfile, LayerGradient, ProbeOutput
from gradcheck_tool.saturation import bounds
from gradcheck_tool.state import preserved, training_mode
from gradcheck_tool.structures import map_tensors, tensors_in
from gradcheck_tool.verdict import judge

Loss = Callable[[Any, Any], Any]


def norm(tensor: Tensor) -> float:
    """The L2 norm of `tensor`, accumulated in float64: no square underflows or overflows."""
    if tensor.numel() == 0:
        return 0.0
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    dtype = torch.complex128 if dense.is_complex() else torch.float64
    total = float(torch.linalg.vector_norm(dense, dtype=dtype))
    largest = float(dense.abs().max()) if total == 0.0 or math.isinf(total) else 0.0
    if largest and math.isfinite(largest):  # float64 values whose squares float64 cannot hold
        return largest * float(torch.linalg.vector_norm(dense.to(dtype) / largest))
    return total


@dataclass
class _Seen:
    """What the hooks and the observer noted during the pass, by the name of the call or of the activation's node."""

    output_grads: dict[str, float] = field(default_factory=dict)
    activations: dict[str, _ActivationFigures] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    first_non_finite: str | None = None


@dataclass(frozen=True)
class _ActivationFigures:
    mean: float
    std: float
    dead: float
    saturated: float


def _figures(tensor: Tensor, call: Call, activation: fx.Node, model: nn.Module) -> _ActivationFigures:
    """The figures of the activation behind a weight layer. A unit is a channel: the last dimension behind a Linear, the one
    after the batch behind a convolution."""
    values = tensor.detach()
    if values.numel() == 0 or not values.is_floating_point():
        return _ActivationFigures(0.0, 0.0, 0.0, 0.0)
    wide = values if values.dtype == torch.float64 else values.float()
    mean, std = float(wide.mean(dtype=torch.float64)), float(wide.std(correction=0))
    channel = _channel_dim(values, call, model)
    others = [dim for dim in range(values.dim()) if dim != channel]
    alive = (values != 0).any(dim=others) if others else values != 0
    low, high = bounds(activation, model)
    margin = 0.01 * (high - low) if math.isfinite(high - low) else 0.01 * (abs(high) if math.isfinite(high) else 0.0)
    share = torch.zeros(())
    if margin:
        share = ((values <= low + margin) | (values >= high - margin)).double().mean()
    return _ActivationFigures(mean, std, 1.0 - float(alive.double().mean()), float(share))


def _channel_dim(values: Tensor, call: Call, model: nn.Module) -> int:
    weight = model.get_submodule(call.module).weight if call.module else model.get_parameter(call.parameter)
    convolves = isinstance(weight, Tensor) and weight.dim() > 2
    if convolves and values.dim() == len(call.node.meta["shape"]):
        return values.dim() - (weight.dim() - 2) - 1  # type: ignore[union-attr,operator]
    return values.dim() - 1


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
        raise GradtoolError("the model's weights are on the meta device: there is nothing to measure", hint="audit it instead")
    with training_mode(model):
        if structure is None:
            structure = analyze(observe(model, inputs).graph, model)
        with preserved(model, values=True):
            torch.manual_seed(seed)
            return _Pass(model, inputs, structure, loss_fn, targets, seed).run(over)


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
        self.calls = {call.node.name: call for call in structure.calls}
        self.activations: dict[str, list[tuple[Call, fx.Node]]] = {}
        for call, node in structure.activation_of.items():
            self.activations.setdefault(node.name, []).append((call, node))

    def run(self, over: Sequence[Sequence[str]] | None) -> GradientProfile:
        args, kwargs = map_tensors((self.inputs.args, dict(self.inputs.kwargs)), lambda tensor: tensor.detach().clone())
        try:
            _, output = record(self.model, args, kwargs, observer=self.watch)
        except Exception as error:  # noqa: BLE001  the border to the user's code
            raise forward_error(error, self.model, self.inputs) from error
        weights = {call.layer: self.parameters_of(call) for call in self.structure.calls}
        finite, grads = self.backward(output, [p for owned in weights.values() for p in owned])
        layers = tuple(self.layer(call, weights[call.layer], grads) for call in self.structure.calls)
        chains = over if over is not None else [[block.name for block in chain] for chain in self.structure.chains]
        decades, between = _largest_change(layers, chains)
        missing = self.without_gradient(weights, grads)
        verdict, reasons = judge(
            layers,
            decades,
            between,
            non_finite=self.non_finite(finite, layers),
            without_gradient=missing,
            normalized=not any(len(chain) > 1 for chain in chains),
        )
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
            output=ProbeOutput(_kind(output), finite),
        )

    def watch(self, node: fx.Node, tensor: Tensor) -> None:
        """Sees every tensor at the moment at which it is computed."""
        call = self.calls.get(node.name)
        if call is not None:
            self.note_finite(tensor, f"the output of {call.name}")
            if tensor.requires_grad:
                tensor.register_hook(lambda grad, name=call.name: self.add_grad(name, grad))
        for call, activation in self.activations.get(node.name, ()):
            self.note_finite(tensor, f"the output of {self.structure.operations[activation].name} after {call.name}")
            self.seen.activations[call.name] = _figures(tensor, call, activation, self.model)

    def note_finite(self, tensor: Tensor, what: str) -> None:
        if self.seen.first_non_finite is None and tensor.numel() and not bool(torch.isfinite(tensor.detach()).all()):
            self.seen.first_non_finite = what

    def add_grad(self, name: str, grad: Tensor) -> None:
        self.seen.output_grads[name] = math.hypot(self.seen.output_grads.get(name, 0.0), norm(grad))

    def parameters_of(self, call: Call) -> list[nn.Parameter]:
        """The trainable tensors behind a layer's weight: itself, or what a parametrization computes it from."""
        named = dict(self.model.named_parameters(remove_duplicate=False))
        if call.parameter in named:
            return [named[call.parameter]]
        prefix = f"{call.module}." if call.module else ""
        return [p for name, p in named.items() if name.startswith(prefix) and not name.endswith("bias")]

    def backward(self, output: Any, parameters: list[nn.Parameter]) -> tuple[bool, dict[int, Tensor]]:
        """Whether the outputs (and the loss) are finite, and the gradients of `parameters` by id."""
        floating = [tensor for tensor in tensors_in(output) if tensor.is_floating_point() or tensor.is_complex()]
        if not floating:
            raise GradtoolError(
                f"{type(self.model).__name__} returned no floating-point tensor ({_kind(output)})",
                hint="return the logits, not classes, so that a gradient can be taken",
            )
        finite = all(bool(torch.isfinite(tensor.detach()).all()) for tensor in floating)
        roots, cotangents = self.roots(output, floating)
        finite = finite and all(bool(torch.isfinite(root.detach()).all()) for root in roots)
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        if not any(root.requires_grad for root in roots):
            return finite, {}
        leaves = wanted or [tensor for tensor in self.model.parameters() if tensor.requires_grad]
        try:
            grads = torch.autograd.grad(roots, leaves, cotangents, allow_unused=True)
        except RuntimeError as error:
            raise blamed(error, f"backward of {type(self.model).__name__}") from error
        return finite, {id(p): grad for p, grad in zip(leaves, grads, strict=True) if grad is not None}

    def roots(self, output: Any, floating: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        """What the backward pass starts from: the user's loss, or the outputs with a random cotangent each."""
        if self.loss_fn is not None:
            try:
                loss = self.loss_fn(output, self.targets)
            except Exception as error:  # noqa: BLE001  the border to the user's code
                raise blamed(error, "loss_fn(output, targets)") from error
            if not isinstance(loss, Tensor):
                raise GradtoolError(f"loss_fn returned {type(loss).__name__}, not a tensor", hint="return the loss itself")
            return [loss.sum()], None
        generator = torch.Generator().manual_seed(self.seed)
        roots = [tensor for tensor in floating if tensor.requires_grad]
        cotangents = [torch.randn(t.shape, generator=generator, dtype=torch.float32).to(t) for t in roots]
        return roots, cotangents

    def layer(self, call: Call, weights: list[nn.Parameter], grads: Mapping[int, Tensor]) -> LayerGradient:
        found = [norm(grads[id(weight)]) for weight in weights if id(weight) in grads]
        figures = self.seen.activations.get(call.name)
        return LayerGradient(
            name=call.name,
            grad_norm=math.hypot(*found) if found else None,
            output_grad_norm=self.seen.output_grads.get(call.name),
            weight_norm=math.hypot(*(norm(weight) for weight in weights)) if weights else None,
            activation_mean=figures.mean if figures else None,
            activation_std=figures.std if figures else None,
            dead_fraction=figures.dead if figures else None,
            saturated_fraction=figures.saturated if figures else None,
        )

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

    def without_gradient(self, weights: Mapping[str, list[nn.Parameter]], grads: Mapping[int, Tensor]) -> list[str]:
        """Trainable weight layers on a path to the output that autograd gave nothing."""
        reaching = self.structure.reaches_output
        reached = {call.layer for call in self.structure.calls if call.node in reaching}
        return [
            layer
            for layer, owned in weights.items()
            if layer in reached
            and any(weight.requires_grad for weight in owned)
            and not any(id(weight) in grads for weight in owned)
        ]


def _largest_change(
    layers: Sequence[LayerGradient], chains: Sequence[Sequence[str]]
) -> tuple[float | None, tuple[str, str] | None]:
    """The change of the output-gradient norm, in decades, over the chain where it is largest; without a chain of two
    blocks, over all weight layers."""
    by_name = {layer.name: layer.output_grad_norm for layer in layers}
    spans = [(chain[0], chain[-1]) for chain in chains if len(chain) > 1]
    if not spans and len(layers) > 1:
        measured = [layer.name for layer in layers if layer.output_grad_norm is not None]
        spans = [(measured[0], measured[-1])] if len(measured) > 1 else []
    best: tuple[float, tuple[str, str]] | None = None
    for first, last in spans:
        change = decades_between(by_name.get(first), by_name.get(last))
        if change is not None and (best is None or abs(change) > abs(best[0])):
            best = change, (first, last)
    return best if best is not None else (None, None)


def decades_between(first: float | None, last: float | None) -> float | None:
    """log10 of `first` over `last`; None where there is nothing to compare."""
    if first is None or last is None or math.isnan(first) or math.isnan(last) or first == last == 0.0:
        return None
    if first == 0.0 or last == math.inf:
        return -math.inf if first != math.inf else None
    if last == 0.0 or first == math.inf:
        return math.inf
    return math.log10(first) - math.log10(last)


def _kind(output: Any) -> str:
    if isinstance(output, Tensor):
        return "tensor"
    for kind in (dict, tuple, list):
        if type(output) is kind:
            return kind.__name__
    return type(output).__name__
