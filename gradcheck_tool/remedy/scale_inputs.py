"""Inputs of another scale than 1, standardized in front of the first weight layer by numbers that stay fixed.

An image of 0 … 255 has a second moment of 10⁴: the first layer's gradient is 100 times too large for any learning rate
that suits the other layers (LeCun et al. 1998, Efficient BackProp, section 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, Structure, location_of
from gradcheck_tool.ops import Kind
from gradcheck_tool.probing.samples import sample_figures
from gradcheck_tool.remedy.base import Case, Plan, Step
from gradcheck_tool.remedy.layers import WeightLayers, call_named, calls_of, free_name, shared_copy
from gradcheck_tool.results import Location, Skip
from gradcheck_tool.state import preserved

FAR = 2.0
"""|log10 E[x²]| from which inputs are standardized: elements of 10 or 0.1 on average."""
DROWNED = 1e-4
"""E[x²] from which on a norm behind the layer takes the scale away: ten times the ε that torch's norms add to the
variance. Of smaller inputs it leaves them nearly as small as they are."""
ALIKE = 1e-3
"""‖x − mean over samples‖ / ‖x‖ below which the samples differ by little more than float32's last digits, which a layer
and a norm behind it lose: an offset of 30 with differences of 1e-5 (benchmarks/trainability.py)."""
UNEQUAL = 100.0
"""Where the largest standard deviation of a feature is this many times the median one, each has its own."""


@dataclass(frozen=True)
class Standardization:
    """(x − mean) / std before the call of a layer: one number for all of the input, or one for each feature, the last
    dimension. `second_moment` is what the input had."""

    layer: str
    second_moment: float
    mean: tuple[float, ...] = field(repr=False)
    std: tuple[float, ...] = field(repr=False)
    location: Location | None

    def __str__(self) -> str:
        how = f"(x − {self.mean[0]:.4g}) / {self.std[0]:.4g}" if len(self.mean) == 1 else "per feature"
        return f"inputs standardized before {self.layer}, {how} (root mean square {math.sqrt(self.second_moment):.3g})"


class Standardize(nn.Module):
    """(x − mean) / std, both buffers, which are saved with the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape and dtype of `x`."""
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)


@dataclass(frozen=True)
class ScaleInputs:
    """The remedy `scale-inputs`. It needs inputs that are like the real ones; those that gradtool draws itself have
    unit variance, and nothing is planned for them."""

    name: str = "scale-inputs"
    title: str = "inputs standardized before the first layer"
    breaks: tuple[str, ...] = (
        "Mean and standard deviation are those of one batch of your inputs, fixed: other data need other ones.",
        "The state dict has two new keys for each input; trained weights of a first layer do not suit the new scale.",
    )

    def plan(self, case: Case) -> Plan:
        """The weight layers that the model's inputs reach through passing ops alone, where the inputs' scale is far
        off."""
        steps: list[Step] = []
        skipped: list[Skip] = []
        layers = WeightLayers(case.structure, case.model)
        for call, values in _inputs_of_layers(case):
            normalized = layers.is_normalized_behind(call)  # which takes a scale away, of the gradient too
            if isinstance(values, str):
                skipped += [] if normalized else [Skip(call.name, values)]
                continue
            exact = values.detach().double()
            second = float(exact.square().mean())
            if not math.isfinite(second):
                skipped.append(Skip(call.name, "its inputs are not finite"))
            elif second > 0 and (_alike(exact) or (_far(second) and not (normalized and second >= DROWNED))):
                mean, std = _statistics(exact)
                if mean:
                    steps.append(Standardization(call.name, second, mean, std, location_of(call, case.births)))
        return Plan(tuple(steps), tuple(skipped))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured`, which shares its tensors, with a module before each call of the plan.

        Raises:
            KeyError: the plan names a call that the graph does not have.
        """
        fixed = shared_copy(captured)
        named = calls_of(fixed)
        for step in plan.steps:
            assert isinstance(step, Standardization)
            calls = call_named(step.layer, named)
            weight = fixed.get_parameter(calls[0].parameter)
            name = free_name(f"{calls[0].layer}_inputs", fixed)
            numbers = [torch.tensor(value, dtype=torch.float64) for value in (step.mean, step.std)]
            dtype = weight.dtype if weight.is_floating_point() else torch.float32
            fixed.add_submodule(name, Standardize(*(number.to(weight.device, dtype) for number in numbers)))
            for call in calls:
                operand = _operand(call.node)
                assert operand is not None
                with call.node.graph.inserting_before(call.node):
                    scaled = call.node.graph.create_node("call_module", name, (operand,))
                scaled.meta.update({key: operand.meta[key] for key in ("shape", "dtype") if key in operand.meta})
                call.node.replace_input_with(operand, scaled)
        return fixed.checked()


def _far(second: float) -> bool:
    return abs(math.log10(second)) >= FAR


def _alike(values: Tensor) -> bool:
    """Whether the samples, the first dimension, differ by next to nothing of their size, and yet differ."""
    figures = sample_figures(values)
    return figures is not None and 0.0 < figures.spread < ALIKE


def _statistics(values: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, of everything or of each feature; constant features are divided by 1. Nothing where
    there is no variance at all."""
    std = float(values.std(correction=0))
    if not std > 0:
        return (), ()
    if values.dim() == 2 and values.shape[0] > 2:
        each = values.std(0, correction=0)
        varying = each[each > 0]
        if float(varying.max()) > UNEQUAL * float(varying.median()):
            each = torch.where(each > 0, each, 1.0)
            return tuple(values.mean(0).tolist()), tuple(each.tolist())
    return (float(values.mean()),), (std,)


def _operand(node: fx.Node) -> fx.Node | None:
    """The value that a layer is applied to."""
    given = node.args[0] if node.args else node.kwargs.get("input")
    return given if isinstance(given, fx.Node) else None


def _inputs_of_layers(case: Case) -> Iterator[tuple[Call, Tensor | str]]:
    """The calls that take an input of the model, through passing ops alone, and what they take, or why that is
    unknown."""
    structure = case.structure
    given = _given(structure, case)
    weight_nodes = {call.node for call in structure.calls}
    raw: dict[fx.Node, bool] = {}
    for node in structure.graph.nodes:
        if node.op == "placeholder":
            raw[node] = str(node.target) in given
            continue
        operation = structure.operations.get(node)
        passes = operation is not None and operation.kind in (Kind.PASSING, Kind.SUM, Kind.PRODUCT)
        parts = [raw.get(part, False) for part in node.all_input_nodes if part.op != "get_attr"]
        raw[node] = passes and node not in weight_nodes and bool(parts) and all(parts)
    with preserved(case.model, values=True), torch.no_grad():
        values: dict[fx.Node, Any] = {}
        for call in structure.calls:
            operand = _operand(call.node)
            if operand is not None and raw.get(operand, False):
                try:
                    found = _value(operand, case.model, given, values)
                except (RuntimeError, TypeError, AttributeError, ValueError, KeyError, IndexError) as error:
                    yield call, f"its inputs cannot be computed on their own: {error}"
                    continue
                if isinstance(found, Tensor) and found.is_floating_point():
                    yield call, "its inputs are on the meta device" if found.is_meta else found


def _given(structure: Structure, case: Case) -> Mapping[str, Any]:
    """The inputs by the names of the graph's placeholders, which are those of forward's arguments."""
    names = [str(node.target) for node in structure.graph.find_nodes(op="placeholder")]
    left, keywords = list(case.inputs.args), dict(case.inputs.kwargs)
    given: dict[str, Any] = {}
    for name in names:
        if name.startswith("**"):
            given[name] = keywords
        elif name.startswith("*"):
            given[name], left = tuple(left), []
        elif name in keywords:
            given[name] = keywords.pop(name)
        elif left:
            given[name] = left.pop(0)
    return given


def _value(end: fx.Node, model: nn.Module, given: Mapping[str, Any], values: dict[fx.Node, Any]) -> Any:
    """The value of a node, computed from the model's inputs; iteratively, so that no graph is too deep."""
    pending = [end]
    while pending:
        node = pending[-1]
        missing = [part for part in node.all_input_nodes if part not in values]
        if node in values or missing:
            pending = pending[:-1] if node in values else pending + missing
            continue
        pending.pop()
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            values[node] = given[str(node.target)]
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            values[node] = getattr(model.get_submodule(owner), name)
        elif node.op == "call_module":
            values[node] = model.get_submodule(str(node.target))(*args, **kwargs)
        elif node.op == "call_method":
            values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return values[end]
