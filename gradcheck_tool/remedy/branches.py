"""Residual branches that start small, so that a deep net starts as the identity: the γ of a last norm at zero (Goyal et
al. 2017, Accurate, large minibatch SGD, section 5.1), or where a branch ends in no norm, a learnable factor at its end
that starts at zero (SkipInit: De & Smith 2020, section 4) or at 1/√depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import analyze, location_of
from gradcheck_tool.remedy.base import Case, Plan, Step
from gradcheck_tool.remedy.factors import multiplied, new_factor
from gradcheck_tool.remedy.joins import Branch, find_branches, last_of_streams
from gradcheck_tool.remedy.layers import replace_parameter, shared_copy
from gradcheck_tool.results import Location, Skip


@dataclass(frozen=True)
class BranchScale:
    """The branch that ends with the call of `layer`: a factor of `value` at its end, a new parameter; or where `norm`
    is given, the weight of that norm set to `value`. `number` tells branches apart that end in one call."""

    layer: str
    norm: str | None
    value: float
    additions: int
    location: Location | None
    number: int = 0

    def __str__(self) -> str:
        what = f"weight of {self.norm} = {self.value:.3g}" if self.norm else f"a learnable factor, {self.value:.3g}"
        return f"{what}, at the end of the branch of {self.layer} (one of {self.additions} additions in a row)"


@dataclass(frozen=True)
class ScaleBranches:
    """The remedy `scale-branches`.

    Args:
        value: at which the factors start; None: 1/√(additions in a row).
        normalized: whether branches with a norm in them are treated too. Their sum grows but linearly, and trains as it
        is.
    """

    value: float | None = 0.0
    normalized: bool = False
    name: str = "scale-branches"
    title: str = "residual branches that start at zero"
    breaks: tuple[str, ...] = (
        "The state dict has a new key for each branch: load an old checkpoint with strict=False.",
        "The function changes: a trained model gives other outputs until it is trained again.",
    )

    def plan(self, case: Case) -> Plan:
        """The branches of additions in a row, `min_depth` or more, over which second moments double each time: their
        branches have no norm, the sums no norm in between, and nothing scales them."""
        branches = find_branches(case.structure, case.model)
        steps: list[Step] = []
        skipped: list[Skip] = []
        counts: dict[str, int] = {}
        for branch, in_a_row in last_of_streams(branches):
            number = counts[branch.last.name] = counts.get(branch.last.name, -1) + 1
            additions = len(branches) if self.normalized else in_a_row
            if additions < case.min_depth or (branch.is_normalized and not self.normalized):
                continue
            if branch.last.layer in case.structure.recurrent:
                skipped.append(Skip(branch.last.name, "its sum is a step of a recurrence, not a residual branch"))
                continue
            if branch.scaled is not None:
                skipped.append(Skip(branch.last.name, branch.scaled))
                continue
            norm = _weighted_norm(branch, case.model)
            value = 1.0 / math.sqrt(additions) if self.value is None else self.value
            where = location_of(branch.last, case.births)
            steps.append(BranchScale(branch.last.name, norm, value, additions, where, number))
        return Plan(tuple(steps), tuple(skipped))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with the factors of the plan; all other tensors are shared.

        Raises:
            KeyError: the plan names a branch that the graph does not have.
        """
        fixed = shared_copy(captured)
        places = [_numbered(find_branches(analyze(graph, fixed), fixed)) for graph in fixed.graphs]
        for step in plan.steps:
            assert isinstance(step, BranchScale)
            here = [found[step.layer, step.number] for found in places if (step.layer, step.number) in found]
            if not here:
                raise KeyError(f"no branch that ends with {step.layer} in the captured graph")
            if step.norm is not None:
                weight = fixed.get_parameter(f"{step.norm}.weight")
                replace_parameter(fixed, f"{step.norm}.weight", torch.full_like(weight, step.value))
                continue
            name = new_factor(fixed, here[0].last, step.value)
            for branch in here:
                branch.node.replace_input_with(branch.end, multiplied(branch.end, name, branch.node))
        return fixed.checked()


def _weighted_norm(branch: Branch, model: nn.Module) -> str | None:
    """The name of the norm that a branch ends in, where it has a weight of its own."""
    node = branch.norm
    if node is None or node.op != "call_module":
        return None
    weight = model.get_submodule(str(node.target))._parameters.get("weight")
    return str(node.target) if weight is not None and weight.requires_grad else None


def _numbered(branches: tuple[Branch, ...]) -> dict[tuple[str, int], Branch]:
    found: dict[tuple[str, int], Branch] = {}
    counts: dict[str, int] = {}
    for branch in branches:
        number = counts[branch.last.name] = counts.get(branch.last.name, -1) + 1
        found[branch.last.name, number] = branch
    return found
