"""One pass forward and backward: every figure that is measured of it, before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.capturing import forward_error
from gradcheck_tool.capturing.recorder import record
from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.inputs import Inputs, batch_size
from gradcheck_tool.probing.backward import Loss, Signs, floating_in, grad_norms, kind_of, roots_of
from gradcheck_tool.probing.draws import seed_all
from gradcheck_tool.probing.magnitudes import norm
from gradcheck_tool.probing.running import arguments
from gradcheck_tool.probing.watching import Watch
from gradcheck_tool.results import LayerGradient


@dataclass(frozen=True)
class Measurement:
    """What one pass has shown.

    `floors`: by layer, the norm below which the gradient of its output holds nothing but zeros. `rank`: of what goes
    into the last layer, over the samples. `loss`: the user's. `non_finite`: where the first such value was seen.
    `without_gradient`: trainable weight layers on a path to an output that counts to which autograd gave nothing.
    """

    layers: tuple[LayerGradient, ...]
    floors: Mapping[str, float]
    rank: float | None
    loss: float | None
    kind: str
    finite: bool
    non_finite: str | None
    without_gradient: tuple[str, ...]


class Pass:
    """One pass of a model over a batch; use inside `preserved`.

    `signs` are what an optimizer step from here needs, if they are wanted: by the id of each trainable parameter its
    gradient's norm and signs.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        structure: Structure,
        loss_fn: Loss | None,
        targets: Any,
        seed: int,
        wants_signs: bool = False,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.structure = structure
        self.loss_fn = loss_fn
        self.targets = targets
        self.seed = seed
        self.watch = Watch(model, structure, batch_size(inputs))
        self.seen = self.watch.seen
        self.loss: float | None = None
        self.signs: Signs | None = {} if wants_signs else None
        self.named = dict(model.named_parameters(remove_duplicate=False))

    def forward(self) -> tuple[Any, fx.Graph]:
        """Runs the model. Returns what it returned and the graph of what ran."""
        args, kwargs = arguments(self.inputs)
        seed_all(self.seed)
        try:
            with torch.enable_grad():
                recording, output = record(self.model, args, kwargs, observer=self.watch)
        except Exception as error:  # the border to the user's code
            raise forward_error(error, self.model, self.inputs) from error
        return output, recording.graph

    def measure(self, output: Any) -> Measurement:
        """Goes backward from `output` and puts the figures together."""
        weights = {call.layer: self.parameters_of(call) for call in self.structure.calls}
        finite, grads = self.backward(output, [p for owned in weights.values() for p in owned])
        layers = tuple(self.layer(call, weights[call.layer], grads) for call in self.structure.calls)
        return Measurement(
            layers=layers,
            floors=self.seen.floors,
            rank=self.seen.rank,
            loss=self.loss,
            kind=kind_of(output),
            finite=finite,
            non_finite=self.non_finite(finite, layers),
            without_gradient=tuple(self.without_gradient(weights, grads)),
        )

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
            roots = roots_of(output, self.loss_fn, self.targets, self.seed)
        shown = floating_in(output)
        if self.loss_fn is not None:
            self.loss = float(roots[0].detach())
            shown += roots
        finite = all(bool(torch.isfinite(tensor.detach()).all()) for tensor in shown)
        if not any(root.requires_grad for root in roots):
            return finite, {}
        leaves: list[Tensor] = [parameter for parameter in parameters if parameter.requires_grad]
        if not leaves or self.signs is not None or self.passes_frozen_layers():
            leaves = [tensor for tensor in self.model.parameters() if tensor.requires_grad]
        if self.loss_fn is not None:
            leaves += [tensor for tensor in self.seen.returned.values() if tensor.requires_grad]
        try:
            return finite, grad_norms(roots, leaves, self.signs)
        except RuntimeError as error:
            raise blamed(error, f"backward of {type(self.model).__name__}") from error

    def passes_frozen_layers(self) -> bool:
        """Whether a gradient goes through a layer whose weight is frozen, to biases or norms beneath. autograd computes
        none but what is asked for: the gradient of that layer's output comes only on the way to them."""
        return any(
            call.name in self.seen.floors and not any(weight.requires_grad for weight in self.parameters_of(call))
            for call in self.structure.calls
        )

    def layer(self, call: Call, weights: list[nn.Parameter], grads: Mapping[int, float]) -> LayerGradient:
        found = [grads[id(weight)] for weight in weights if id(weight) in grads]
        seen = self.seen.activations.get(call.name)
        entering = self.seen.entering.get(call.name)
        return LayerGradient(
            name=call.name,
            grad_norm=math.hypot(*found) if found else None,
            output_grad_norm=self.seen.output_grads.get(call.name),
            weight_norm=math.hypot(*(norm(weight) for weight in weights)) if weights else None,
            activation_mean=seen.mean if seen else None,
            activation_std=seen.std if seen else None,
            dead_fraction=seen.dead if seen else None,
            saturated_fraction=seen.saturated if seen else None,
            input_scale=entering.scale if entering else None,
            input_spread=entering.spread if entering else None,
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


def _reaching(graph: fx.Graph, ends: set[str]) -> set[fx.Node]:
    """The nodes from which a path leads to one of those named `ends`."""
    reaching: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.name in ends or any(user in reaching for user in node.users):
            reaching.add(node)
    return reaching
