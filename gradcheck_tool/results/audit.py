"""What audit returns: facts of the model and of its capture, chains, a forecast, and the findings of the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_tool.results.document import InputSpec, Printable, Target, document_head, to_json
from gradcheck_tool.results.finding import SEVERITIES, Finding
from gradcheck_tool.results.profile import GradientProfile


@dataclass(frozen=True)
class ModelFacts:
    """Class name, number of parameters (elements), number of weight layers that ran."""

    class_: str
    parameters: int
    weight_layers: int

    def to_dict(self) -> dict[str, Any]:
        return {"class": self.class_, "parameters": self.parameters, "weight_layers": self.weight_layers}


@dataclass(frozen=True)
class Specialization:
    """A place where a value or a drawn number steered the model, so that the graph holds for this input only."""

    reason: str
    file: str | None
    line: int | None


@dataclass(frozen=True)
class CaptureFacts:
    """On which device the graph was recorded, how many nodes it has, and where it was specialized."""

    device: str
    nodes: int
    specialized: tuple[Specialization, ...]


@dataclass(frozen=True)
class Chain:
    """A maximal run of unnormalized blocks. Decades: log10 of the gradient norm at its first block over its last."""

    layers: tuple[str, ...]
    activations: tuple[str, ...]
    depth: int
    predicted_decades: float | None
    measured_decades: float | None
    note: str | None = None
    """Why there is no prediction, where there is none."""
    predicted_decades_with_bn: float | None = None
    """What it would be with batch norm behind every block, as `fix --insert-bn` puts it, for the batch size of the
    inputs; None where it is not known, or the chain is one that fix leaves alone."""


@dataclass(frozen=True)
class Forecast:
    """What theory says of the whole model, for inputs of unit second moment that are independent from sample to sample.

    `decades`: log10 of the gradient norm at the output of the first weight layer over that at the last, `over` their
    names. `spread_decades`: log10 of how far samples differ, relative to their size, in what the last of them reads
    over what the first reads: −3 is a net whose output hardly depends on its input. None where the theory does not
    hold, and `note` says why.
    """

    decades: float | None
    over: tuple[str, str] | None
    spread_decades: float | None
    note: str | None = None


@dataclass(frozen=True)
class Unanalyzed:
    """An op of the graph that the analysis does not understand, and why that ends the run there."""

    node: str
    reason: str


@dataclass(frozen=True)
class AuditReport(Printable):
    """What audit found. `chains` holds every chain of depth 1 or more, deepest first."""

    target: Target
    inputs: tuple[InputSpec, ...]
    model: ModelFacts
    capture: CaptureFacts
    chains: tuple[Chain, ...]
    findings: tuple[Finding, ...]
    not_analyzed: tuple[Unanalyzed, ...]
    probe: GradientProfile | None = None
    forecast: Forecast | None = None

    def fails(self, fail_on: str = "warning") -> bool:
        """Whether any finding is at or above the severity `fail_on` ("never": none is)."""
        if fail_on == "never":
            return False
        floor = SEVERITIES.index(fail_on)
        return any(SEVERITIES.index(finding.severity) >= floor for finding in self.findings)

    @property
    def ok(self) -> bool:
        """True where no finding is a warning or an error."""
        return not self.fails()

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON of `audit`."""
        return document_head(self.target, self.inputs) | {
            "model": self.model.to_dict(),
            "capture": to_json(self.capture),
            "chains": to_json(self.chains),
            "findings": to_json(self.findings),
            "not_analyzed": to_json(self.not_analyzed),
            "forecast": to_json(self.forecast),
            "probe": None if self.probe is None else self.probe.to_dict(),
        }
