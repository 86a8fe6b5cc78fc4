"""Activations that let no gradient pass, or let it explode, exchanged for one that does. Only in the graph, call by
call: a module that is called in two places is exchanged where it is asked for alone.

The weights before and after stay as they are, at the gain of the old activation: follow it with `Reinitialize`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import fx

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, Structure, analyze, location_of
from gradcheck_tool.ops import Kind
from gradcheck_tool.remedy.base import Case, Plan, Step
from gradcheck_tool.remedy.layers import shared_copy
from gradcheck_tool.results import Location, Skip

Replacement = Literal["relu", "gelu"]
_FUNCTIONS = {"relu": F.relu, "gelu": F.gelu}

_GROWING = "grows faster than its input: one large value is enough for an infinite one some layers on"
_SHRINKING = "has no slope where its inputs are small, so that small signals vanish at once"
_FLAT = "has a slope of 1/4 at most"
_UNDEFINED = "is not defined for all numbers"

BAD: Mapping[str, str] = {
    **dict.fromkeys(("exp", "exp2", "expm1", "square", "pow", "__pow__", "sinh", "cosh", "tan"), _GROWING),
    **dict.fromkeys(("sigmoid", "hardsigmoid", "expit"), _FLAT),
    **dict.fromkeys(("tanhshrink", "hardshrink", "softshrink"), _SHRINKING),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "logit"), _UNDEFINED),
    **dict.fromkeys(("acos", "asin", "acosh", "atanh", "arccos", "arcsin", "arccosh", "arctanh"), _UNDEFINED),
}
"""By the name of the function in lower case, what is wrong with it between two layers of a deep chain. E[φ'²] of a
sigmoid is 1/16 at most, so that σ_w² = 16 and more is needed to keep a gradient (Glorot & Bengio 2010, section 3)."""


@dataclass(frozen=True)
class ActivationChange:
    """Another activation behind the call of a layer."""

    layer: str
    old: str
    new: Replacement
    location: Location | None
    why: str

    def __str__(self) -> str:
        return f"{self.new} for {self.old} after {self.layer}: {self.old} {self.why}"


@dataclass(frozen=True)
class ChangeActivation:
    """The remedy `change-activation`: in chains of at least `min_depth` blocks, and behind normalizations, which let no
    more of a gradient through an activation that lets none pass, in models with as many such blocks.

    Args:
        new: what comes instead. ReLU and GELU train alike in the benchmark; ReLU can be written in place of a function
            that overwrites its input.
        growing_alone: whether only those go that grow faster than their input, as e^x does.
    """

    new: Replacement = "relu"
    growing_alone: bool = False
    name: str = "change-activation"
    title: str = "another activation for those that let no gradient pass"
    breaks: tuple[str, ...] = (
        "The model computes another function: weights trained with the old activation are of no use with the new one.",
    )

    def __post_init__(self) -> None:
        if self.new not in _FUNCTIONS:
            raise ValueError(f"no activation {self.new}; there are {', '.join(_FUNCTIONS)}")

    def plan(self, case: Case) -> Plan:
        """The activations to exchange: those between two layers. Gates, and what goes to the model's output, are meant
        to be bounded."""
        steps: list[Step] = []
        skipped: list[Skip] = []
        for call in _treated(case.structure, case.min_depth):
            node = case.structure.activation_of[call]
            operation = case.structure.operations[node]
            old = operation.name.lower().rstrip("_")
            why = BAD.get(old)
            if why is None or operation.kind is not Kind.ACTIVATION or (self.growing_alone and why != _GROWING):
                continue
            reason = _objection(node, case.structure, self.new)
            if reason is not None:
                skipped.append(Skip(call.name, reason))
                continue
            steps.append(ActivationChange(call.name, old, self.new, location_of(call, case.births), why))
        return Plan(tuple(steps), tuple(skipped))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured`, which shares its tensors, with the activations of the plan exchanged. A graph of
        evaluation mode, where there is one, is changed where it has the same call.

        Raises:
            KeyError: the plan names a call behind which no such activation stands.
        """
        fixed = shared_copy(captured)
        wanted = {step.layer: step for step in plan.steps if isinstance(step, ActivationChange)}
        left = set(wanted)
        for graph in fixed.graphs:
            for layer, node in activations(analyze(graph, fixed)).items():
                if layer in wanted:
                    _exchange(node, _FUNCTIONS[wanted[layer].new])
                    left.discard(layer)
        if left:
            raise KeyError(f"no activation behind {min(left)} in the captured graph")
        return fixed.checked()


def activations(structure: Structure) -> dict[str, fx.Node]:
    """The activation that each call of a weight layer reaches, by the name of the call."""
    return {call.name: node for call, node in structure.activation_of.items()}


def _treated(structure: Structure, min_depth: int) -> list[Call]:
    """The calls in deep chains and, if there are as many, those behind whose normalization an activation stands; in
    the order in which they ran."""
    deep = {block.call for chain in structure.chains if len(chain) >= min_depth for block in chain}
    normalized = structure.activation_of.keys() - {block.call for block in structure.blocks}
    wanted = deep | (normalized if len(normalized) >= min_depth else set())
    return [call for call in structure.calls if call in wanted]


def _objection(node: fx.Node, structure: Structure, new: Replacement) -> str | None:
    """Why an activation is not to be exchanged."""
    if not _feeds_layers_alone(node, structure):
        return "its activation gates another value or goes to the output, and is meant to be bounded"
    if node in structure.flow.writes and new != "relu":
        return f"its activation overwrites its input, which {new} cannot"
    if len(node.all_input_nodes) != 1:
        return "its activation takes more than one value"
    return None


def _feeds_layers_alone(node: fx.Node, structure: Structure) -> bool:
    """Whether a value goes into weight layers and normalizations alone, through passing ops, pooling and sums."""
    calls = {call.node for call in structure.calls}
    pending, seen = [node], {node}
    while pending:
        for user in structure.flow.users[pending.pop()]:
            if user in calls or user in seen or user in structure.forms.norms:
                continue
            seen.add(user)
            kind = structure.operations[user].kind if user in structure.operations else None
            if kind in (Kind.CONSTANT, Kind.NORMALIZATION):
                continue
            if kind not in (Kind.PASSING, Kind.MIXING, Kind.SUM):
                return False
            pending.append(user)
    return True


def _exchange(node: fx.Node, function: object) -> None:
    """Another function of the same operand, in place where the old one was."""
    (operand,) = node.all_input_nodes
    in_place = node.kwargs.get("inplace") is True or getattr(_module_of(node), "inplace", False) is True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op != "call_module":
        in_place = in_place or (name.endswith("_") and not name.endswith("__"))
    node.op, node.target = "call_function", function  # type: ignore[assignment]
    node.args, node.kwargs = (operand,), {"inplace": True} if in_place else {}


def _module_of(node: fx.Node) -> object:
    owner = node.graph.owning_module
    return owner.get_submodule(str(node.target)) if node.op == "call_module" and owner is not None else None
