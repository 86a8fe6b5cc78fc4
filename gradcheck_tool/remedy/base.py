"""What every remedy is: a plan, which is data, and a way to apply that plan to a captured graph.

A remedy neither measures nor judges itself; who tries remedies probes what they made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Structure
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.results import Location, Skip


@dataclass(frozen=True)
class Case:
    """What a remedy plans from: a model that was read, and the inputs that it was read with.

    `min_depth` is the number of blocks from which a chain is treated; `births` says where each layer was constructed.
    """

    model: nn.Module
    inputs: Inputs
    structure: Structure
    min_depth: int = 4
    births: Mapping[str, Location] = field(default_factory=dict)


class Step(Protocol):
    """One thing that a plan changes, at one call of a weight layer; a frozen dataclass of plain values."""

    @property
    def location(self) -> Location | None:
        """Where the layer is constructed in the user's source."""

    def __str__(self) -> str:
        """For people: `BatchNorm1d(128) after fc1`, `fc1: orthogonal weights of gain 1.41, zero biases`."""


@dataclass(frozen=True)
class Plan:
    """What changes, in the order in which the calls ran, and what was left out and why. Without steps there is nothing
    that this remedy can do."""

    steps: tuple[Step, ...] = ()
    skipped: tuple[Skip, ...] = ()


class Remedy(Protocol):
    """One way to heal a model's gradients."""

    @property
    def name(self) -> str:
        """What users and the JSON call it: `insert-bn`."""

    @property
    def title(self) -> str:
        """A phrase for people: `batch norm behind every block`."""

    @property
    def breaks(self) -> tuple[str, ...]:
        """What it costs besides time and memory, a sentence each: checkpoints, dependence on the batch, sequences."""

    def plan(self, case: Case) -> Plan:
        """What it would change; reads the model and leaves it as it is."""

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with the plan carried out. Tensors that the plan leaves alone are shared with it, those
        that it changes are new ones: the model that was captured stays as it was, to the bit."""
