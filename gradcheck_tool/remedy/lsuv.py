"""Layer-sequential unit variance: orthogonal weights, each then scaled so that its output over one batch has a variance
of 1 (Mishkin & Matas 2016, All you need is a good init, algorithm 1).

The paper scales a layer, runs the net again and repeats until the variance is within 0.1. With zero biases a layer's
output is proportional to its weight, so that one division is exact, and one forward pass does for all layers: each
output is measured and divided as it comes, and what follows is computed from the result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, location_of
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.ops import operation_name
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.drawing import SCHEMES, Scheme
from gradcheck_tool.remedy.gains import critical_gains
from gradcheck_tool.remedy.layers import (
    WeightLayers,
    call_named,
    calls_of,
    free_name,
    replace_parameter,
    shared_copy,
)
from gradcheck_tool.remedy.reinitialize import redraw
from gradcheck_tool.results import Location, Skip
from gradcheck_tool.state import preserved


@dataclass(frozen=True)
class UnitVariance:
    """Weights for the layer of one call, drawn and scaled to a unit variance of its output over the batch. `bias` names
    the parameter that becomes zero, or where `centred` minus the mean of each channel."""

    layer: str
    parameter: str
    scheme: Scheme
    bias: str | None
    centred: bool
    location: Location | None

    def __str__(self) -> str:
        biases = "" if self.bias is None else ", centring biases" if self.centred else ", zero biases"
        return f"{self.layer}: {self.scheme} weights, scaled to unit variance of its output over the batch{biases}"


@dataclass(frozen=True)
class LayerSequentialUnitVariance:
    """The remedy `lsuv`. It needs inputs that are like the real ones.

    Args:
        scheme: how weights are drawn before they are scaled.
        centre: whether biases take the mean over the batch of each channel away, so that no unit is dead to begin with.
            None: only behind activations most of whose second moment is a mean (sigmoid). Behind ReLU it makes
            gradients grow by π/(π−1) a layer, as batch norm does.
        seed: of the draw, and of dropout during the pass.
    """

    scheme: Scheme = "orthogonal"
    centre: bool | None = None
    seed: int = 0
    name: str = "lsuv"
    title: str = "weights drawn anew, scaled to unit variance over a batch"
    breaks: tuple[str, ...] = (
        "The weights of the layers drawn anew are lost: a checkpoint, or pretrained weights, are of no use any more.",
        "The scales are those that suit one batch of your inputs: inputs of another scale need other ones.",
    )

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"no scheme {self.scheme}; there are {', '.join(SCHEMES)}")

    def plan(self, case: Case) -> Plan:
        """Every weight layer whose scale matters: a normalization behind it makes it void. Nothing at all where no
        block is unnormalized."""
        structure, layers = case.structure, WeightLayers(case.structure, case.model)
        if not any(len(chain) >= case.min_depth for chain in structure.chains):
            return Plan()
        inside = {block.call: block.inside for block in structure.blocks}
        biases = {call: layers.bias(call, inside.get(call, ())) for call in structure.calls}
        gains = critical_gains(structure, case.model, {call: bias is not None for call, bias in biases.items()})
        steps: list[UnitVariance] = []
        skipped: list[Skip] = []
        for call in layers.first_calls():
            if layers.is_normalized_behind(call):
                continue
            reason = layers.objection(call)
            if reason is not None:
                skipped.append(Skip(call.name, reason))
                continue
            gain, bias = gains.get(call), biases[call]
            centred = not isinstance(gain, str | None) and bool(gain.centre) if self.centre is None else self.centre
            where = location_of(call, case.births)
            steps.append(
                UnitVariance(call.name, call.parameter, self.scheme, bias, centred and bias is not None, where)
            )
        return Plan(tuple(steps), tuple(skipped))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with new parameters for the layers of the plan, scaled on the inputs of the case.

        A layer whose output does not vary over the batch is left as drawn.

        Raises:
            KeyError: the plan names a layer that the graph does not have.
            GradtoolError: the inputs are on the meta device.
        """
        fixed = shared_copy(captured)
        calls = calls_of(fixed)
        steps = [step for step in plan.steps if isinstance(step, UnitVariance)]
        for step in steps:
            call = call_named(step.layer, calls)[0]
            redraw(fixed, call, step.parameter, step.bias, 1.0, step.scheme, seed=self.seed)
        for step, gauge in zip(steps, _measured(fixed, steps, case, self.seed), strict=True):
            factor = gauge.factor if gauge.factor is not None else 1.0
            replace_parameter(fixed, step.parameter, fixed.get_parameter(step.parameter).detach() * factor)
            if step.bias is not None and gauge.shift is not None:
                bias = fixed.get_parameter(step.bias)
                replace_parameter(fixed, step.bias, gauge.shift.expand(bias.shape))
        return fixed


class _Gauge(nn.Module):
    """Stands behind the calls of one layer: at the first it finds what to multiply its output by and what to add then;
    it puts out what the layer will."""

    def __init__(self, channels: int | None) -> None:
        super().__init__()
        self.channels = channels  # the dimension whose means are to be taken away
        self.factor: float | None = None
        self.shift: Tensor | None = None

    def forward(self, output: Tensor) -> Tensor:
        if self.factor is None:
            exact = output.detach().double()
            mean = None
            if self.channels is not None:
                others = [dim for dim in range(exact.dim()) if dim != self.channels % exact.dim()]
                mean = exact.mean(others, keepdim=True)
                exact = exact - mean
            spread = float(exact.std(correction=0))
            self.factor = 1.0 / spread if math.isfinite(1.0 / spread if spread else math.inf) else 1.0
            self.shift = None if mean is None else (-self.factor * mean).flatten()
        result = output * self.factor
        if self.shift is None or self.channels is None:
            return result
        shape = [1] * result.dim()
        shape[self.channels] = -1
        return result + self.shift.to(result).reshape(shape)


def _measured(fixed: CapturedModule, steps: list[UnitVariance], case: Case, seed: int) -> list[_Gauge]:
    """A gauge for each step, after one forward pass in training mode. `fixed` is left as it is."""
    if any(parameter.is_meta for parameter in fixed.parameters()):
        raise GradtoolError(
            "there are no weights to scale: the model is on the meta device", hint="build it on the CPU"
        )
    trial = shared_copy(fixed)
    gauges = []
    named = calls_of(trial)
    for step in steps:
        here = call_named(step.layer, named)
        gauge = _Gauge(_channels(here[0], trial) if step.centred else None)
        name = free_name("_gauge", trial)
        trial.add_submodule(name, gauge)
        for node in _calls_of_layer(here[0].layer, named):
            _insert(node, name)
        gauges.append(gauge)
    trial.checked()
    with preserved(trial, values=True), torch.enable_grad():  # which the model may take one of itself
        torch.manual_seed(seed)
        trial.train()
        trial(*case.inputs.args, **case.inputs.kwargs)
        found = [(gauge.factor, gauge.shift) for gauge in gauges]
    for gauge, (factor, shift) in zip(gauges, found, strict=True):  # which `preserved` has put back
        gauge.factor, gauge.shift = factor, shift
    return gauges


def _calls_of_layer(layer: str, named: list[dict[str, Call]]) -> Iterator[fx.Node]:
    for calls in named:
        for call in calls.values():
            if call.layer == layer:
                yield call.node


def _insert(node: fx.Node, name: str) -> None:
    with node.graph.inserting_after(node):
        gauge = node.graph.create_node("call_module", name, (node,))
    node.replace_all_uses_with(gauge, delete_user_cb=lambda user: user is not gauge)
    gauge.meta.update(node.meta)


def _channels(call: Call, model: nn.Module) -> int:
    """The dimension of a call's output that its bias is added along, from the end."""
    if call.module is not None:
        kernel = getattr(model.get_submodule(call.module), "kernel_size", ())
        return -1 - len(kernel)
    name = operation_name(call.node)
    return -1 - (int(name.removesuffix("d")[-1]) if name.startswith("conv") else 0)
