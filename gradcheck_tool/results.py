"""What the four verbs return: frozen values that print as their text report and turn into the documented JSON.

Nothing here computes anything about a model; every other room may import this one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gradcheck_tool._version import __version__

if TYPE_CHECKING:
    from torch import fx

SCHEMA_VERSION = 1
SEVERITIES = ("note", "warning", "error")

Severity = Literal["note", "warning", "error"]
Verdict = Literal["healthy", "vanishing", "exploding", "dead", "saturated", "non-finite", "no-gradient"]
Origin = Literal["option", "file", "model", "inferred"]


def to_json(value: Any) -> Any:
    """`value` as JSON types. Dataclasses become objects by field name (fields marked `json=False` are left out);
    a figure that is not finite becomes the string "inf", "-inf" or "nan"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            entry.name: to_json(getattr(value, entry.name))
            for entry in dataclasses.fields(value)
            if entry.metadata.get("json", True)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@dataclass(frozen=True)
class Tool:
    """Which gradtool, on which torch, made a report."""

    name: str
    version: str
    torch: str


def this_tool() -> Tool:
    """The running gradtool and the installed torch."""
    import torch

    return Tool("gradtool", __version__, torch.__version__.split("+")[0])


@dataclass(frozen=True)
class Target:
    """What was looked at: the TARGET as typed, the user's file (None for an object handed over in Python), its name."""

    spec: str
    file: str | None
    object: str


@dataclass(frozen=True)
class InputSpec:
    """One tensor that the model was given. `shape` includes the batch; `dtype` is torch's name without `torch.`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: Origin
    note: str | None = field(default=None, metadata={"json": False})
    """How it was found, for people: "read off Linear(784, 512) at model.py:8"."""


@dataclass(frozen=True)
class ModelFacts:
    """Class name, number of parameters (elements), number of weight layers that ran."""

    class_: str
    parameters: int
    weight_layers: int

    def to_dict(self) -> dict[str, Any]:
        return {"class": self.class_, "parameters": self.parameters, "weight_layers": self.weight_layers}


@dataclass(frozen=True)
class Location:
    """A place in the user's source: 1-based line and column in characters, the end exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


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
class Fix:
    """The remedy that a finding suggests, and whether it changes what the model computes ("unsafe") or not ("safe")."""

    remedy: str
    applicability: Literal["safe", "unsafe"]


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found."""

    rule: str
    name: str
    severity: Severity
    message: str
    layers: tuple[str, ...]
    location: Location | None
    fix: Fix | None


@dataclass(frozen=True)
class Unanalyzed:
    """An op of the graph that the analysis does not understand, and why that ends the run there."""

    node: str
    reason: str


@dataclass(frozen=True)
class LayerGradient:
    """What the probe measured at one call of a weight layer.

    `grad_norm` is the L2 norm of the loss's gradient by the weight (the total over calls), `output_grad_norm` that by
    the call's output over the whole batch, `weight_norm` the L2 norm of the weight. `activation_*`, `dead_fraction` and
    `saturated_fraction` are of the block's activation output, None where the call is no block. All norms are
    accumulated in float64.
    """

    name: str
    grad_norm: float | None
    output_grad_norm: float | None
    weight_norm: float | None
    activation_mean: float | None
    activation_std: float | None
    dead_fraction: float | None
    saturated_fraction: float | None
    input_scale: float | None = None
    """The root mean square of what goes into the layer."""
    input_spread: float | None = None
    """Of what goes into the layer, ‖h − mean over samples‖ / ‖h‖: 0 where all samples are alike to it."""


@dataclass(frozen=True)
class AfterSteps:
    """The figures of a profile that its verdict looks at once more after a few steps. `last_spread` is the spread over
    samples of what goes into the last weight layer, `loss` the user's."""

    measured_decades: float | None
    last_spread: float | None
    rank: float | None
    loss: float | None
    finite: bool


@dataclass(frozen=True)
class ProbeOutput:
    """The kind of thing that the model returned ("tensor", "tuple", "dict", …), and whether all of it was finite."""

    kind: str
    finite: bool


class _Printable:
    """Prints as its text report."""

    def __str__(self) -> str:
        from gradcheck_tool.report import render

        result: Any = self  # one of the subclasses below
        return render(result, "text")


@dataclass(frozen=True)
class GradientProfile(_Printable):
    """One forward and backward pass through a model: gradient norms by weight layer, and a verdict with its reasons."""

    verdict: Verdict
    reasons: tuple[str, ...]
    loss: Literal["random-projection", "user"]
    batch_size: int | None
    batches: int
    seed: int
    layers: tuple[LayerGradient, ...]
    measured_decades: float | None
    measured_over: tuple[str, str] | None
    """The first and the last layer between which `measured_decades` was measured."""
    output: ProbeOutput
    rank: float | None = None
    """Of what goes into the last weight layer, over the samples: the number of directions of like weight."""
    steps: int = 0
    """How many optimizer steps were taken before the second look."""
    stepped: AfterSteps | None = None

    def to_dict(self) -> dict[str, Any]:
        """The object that stands under `probe`, `before` and `after` in the JSON."""
        result: dict[str, Any] = to_json(self)
        return result


@dataclass(frozen=True)
class ProbeReport(_Printable):
    """`gradtool probe`: a profile and what it was taken of."""

    target: Target
    inputs: tuple[InputSpec, ...]
    probe: GradientProfile

    @property
    def ok(self) -> bool:
        """True where the verdict is healthy."""
        return self.probe.verdict == "healthy"

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON of `probe`."""
        return _document(self) | {"probe": self.probe.to_dict()}


@dataclass(frozen=True)
class AuditReport(_Printable):
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
        return _document(self) | {
            "model": self.model.to_dict(),
            "capture": to_json(self.capture),
            "chains": to_json(self.chains),
            "findings": to_json(self.findings),
            "not_analyzed": to_json(self.not_analyzed),
            "forecast": to_json(self.forecast),
            "probe": None if self.probe is None else self.probe.to_dict(),
        }


@dataclass(frozen=True)
class Insertion:
    """One norm of the plan: after the call `after`, a module of torch.nn class `norm` over `num_features` channels, in
    that many `groups` if it is a GroupNorm. `note` says why it is this norm, where that is not what was asked for."""

    after: str
    norm: str
    num_features: int
    location: Location | None
    groups: int | None = None
    note: str | None = None

    def constructed(self, size: str | None = None, groups: str | None = None) -> str:
        """The call of torch.nn that makes the norm: `BatchNorm1d(128)`, `GroupNorm(8, 128)`; with expressions for the
        size and the number of groups, where these are given."""
        arguments = [size or str(self.num_features)]
        if self.groups is not None:
            arguments.insert(0, groups or str(self.groups))
        if self.norm.startswith("InstanceNorm"):
            arguments.append("affine=True")
        return f"{self.norm}({', '.join(arguments)})"

    def __str__(self) -> str:
        return f"{self.constructed()} after {self.after}"


@dataclass(frozen=True)
class Skip:
    """A layer of a chain that gets no norm, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """One remedy that `fix --auto` tried: what the probe says of the model that came of it, how many things it changes,
    and what it costs, measured: parameters added, and the time of a training step and the memory held for the backward
    pass over those of the model as it was. `breaks`: what it costs besides, a sentence each."""

    remedy: str
    title: str
    verdict: Verdict
    reason: str | None
    measured_decades: float | None
    heals: bool
    changes: int
    parameters: int
    step_time_ratio: float | None
    memory_ratio: float | None
    breaks: tuple[str, ...]


@dataclass(frozen=True)
class FixResult(_Printable):
    """The fixed model and what it was worth, measured over the same layers before and after.

    `improved` is None where there was nothing to do; the profiles are None where the model has no weights to run with
    (it lies on the meta device). `diff` is of the user's own files, or where `patch_refused` says why these are not
    changed, of a new module that builds the fixed model.
    """

    target: Target
    inputs: tuple[InputSpec, ...]
    plan: tuple[Insertion, ...]
    skipped: tuple[Skip, ...]
    before: GradientProfile | None
    after: GradientProfile | None
    improved: bool | None
    renamed: Mapping[str, str]
    diff: str
    written: str | None
    model: fx.GraphModule = field(repr=False, metadata={"json": False})
    without_bias: tuple[str, ...] = ()
    """Layers that lost their bias, which the norm behind them makes void."""
    patch_refused: str | None = None
    function_change: float | None = None
    """By how much the outputs in evaluation mode differ from the old model's, relative to the largest; where the
    function was to be kept."""
    weights: str | None = None
    """The file that the fixed model's weights were written to."""
    auto: bool = False
    """Whether the remedy was to be chosen by measuring."""
    remedy: str | None = None
    """Which one was chosen; None where none was tried, or none heals."""
    tried: tuple[Trial, ...] = ()
    """What `auto` tried, in that order."""
    steps: tuple[str, ...] = ()
    """What a remedy other than norms changes, a line each."""

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON of `fix`."""
        return _document(self) | {
            "plan": to_json(self.plan),
            "skipped": to_json(self.skipped),
            "before": None if self.before is None else self.before.to_dict(),
            "after": None if self.after is None else self.after.to_dict(),
            "improved": self.improved,
            "renamed": to_json(self.renamed),
            "diff": self.diff,
            "written": self.written,
            "without_bias": to_json(self.without_bias),
            "patch_refused": self.patch_refused,
            "function_change": to_json(self.function_change),
            "weights": self.weights,
            "auto": self.auto,
            "remedy": self.remedy,
            "tried": to_json(self.tried),
            "steps": to_json(self.steps),
        }


def _document(report: ProbeReport | AuditReport | FixResult) -> dict[str, Any]:
    """The head that every JSON document shares."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": to_json(this_tool()),
        "target": to_json(report.target),
        "inputs": to_json(report.inputs),
    }
