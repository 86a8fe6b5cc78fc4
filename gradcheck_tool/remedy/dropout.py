"""Less dropout, where so much of it stands in a row that its noise drowns the inputs.

A dropout of p multiplies the second moment by 1 / (1 − p) and adds that much noise, anew in every layer: two samples
that are alike come out apart, and beyond a depth that p sets no sample is told from another (Schoenholz et al. 2017,
Deep information propagation, section 5). All that is left of a signal of one behind n of them is (1 − p)ⁿ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.nn.modules.dropout import _DropoutNd

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.remedy.base import Case, Plan, Step
from gradcheck_tool.remedy.layers import shared_copy
from gradcheck_tool.results import Location

ENOUGH = 2 / 3
"""The share of the signal, ∏ (1 − p), of which nothing is changed: what a single dropout of 1/3 leaves."""

LEFT = 0.9
"""The share that is left where something is. Of twelve nets with dropout that do not learn, and that `fix --auto`
treats, eleven learn with 0.9 of it left; with two thirds nine of 13 (benchmarks/trainability.py auto)."""


@dataclass(frozen=True)
class DropoutChange:
    """Another probability for a dropout module."""

    module: str
    old: float
    new: float
    location: Location | None

    def __str__(self) -> str:
        return f"{self.module}: dropout of {self.new:.2g} for {self.old:.2g}"


@dataclass(frozen=True)
class LessDropout:
    """The remedy `less-dropout`: every dropout module is lowered to one probability, so that `LEFT` of the signal is
    left. Dropout by function is in a line of the user's source, and stays."""

    name: str = "less-dropout"
    title: str = "less dropout, where much of it stands in a row"
    breaks: tuple[str, ...] = ("Dropout regularizes: with less of it a net may overfit; look at the validation loss.",)

    def plan(self, case: Case) -> Plan:
        """The modules that the graph calls and that drop more than their share; none where enough is left."""
        names = [str(node.target) for node in case.structure.graph.nodes if node.op == "call_module"]
        found = [(name, case.model.get_submodule(name)) for name in names]
        dropouts = [(name, module.p) for name, module in found if isinstance(module, _DropoutNd) and 0 < module.p < 1]
        if not dropouts or math.prod(1 - p for _, p in dropouts) >= ENOUGH:
            return Plan()
        share = float(f"{1 - LEFT ** (1 / len(dropouts)):.2g}")  # as a person would write it
        steps: dict[str, Step] = {
            name: DropoutChange(name, p, share, case.births.get(name)) for name, p in dropouts if p > share
        }
        return Plan(tuple(steps.values()))

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured`, which shares its tensors, with the probabilities of the plan.

        Raises:
            KeyError: the plan names a module that the graph does not have.
        """
        fixed = shared_copy(captured)
        modules = dict(fixed.named_modules())
        for step in plan.steps:
            assert isinstance(step, DropoutChange)
            dropout = modules[step.module]
            assert isinstance(dropout, _DropoutNd)
            dropout.p = step.new
        return fixed.checked()
