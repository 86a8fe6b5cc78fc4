"""What the probe returns: gradient norms by weight layer, and a verdict with its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gradcheck_tool.results.document import InputSpec, Printable, Target, document_head, to_json

Verdict = Literal["healthy", "vanishing", "exploding", "dead", "saturated", "non-finite", "no-gradient"]


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
    grad_norm_decades_std: float | None = None
    output_grad_norm_decades_std: float | None = None
    """Over several runs: the standard deviation of log10 of the norm."""


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
class Divergence:
    """At which learning rate, and after how many steps, the loss was not finite any more."""

    rate: float
    steps: int


@dataclass(frozen=True)
class Learning:
    """How the model takes to its own batch: the share of the loss that its inputs explain after some steps of Adam,
    where that was enough, else at the end (minus infinity where the loss was finite at no look); whether it was
    enough; how many steps were taken, over all trainings, and how many of these in the last; whether the share is of
    samples held out of the training; whether the model is healthy for this alone, against its other figures; the
    divergence at one of the rates, where there was one; where that decided, what a linear model explains; and the most
    that the model explained in the first 32 steps of a training, where it was looked at then."""

    explained: float
    learns: bool
    steps: int
    last_steps: int
    held_out: bool = False
    overrules: bool = False
    diverged: Divergence | None = None
    linear: float | None = None
    soon: float | None = None


@dataclass(frozen=True)
class ProbeOutput:
    """The kind of thing that the model returned ("tensor", "tuple", "dict", …), and whether all of it was finite."""

    kind: str
    finite: bool


@dataclass(frozen=True)
class GradientProfile(Printable):
    """Passes forward and backward through a model: gradient norms by weight layer, and a verdict with its reasons. Of
    several batches and seeds the figures are the means, of norms the geometric ones."""

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
    learning: Learning | None = None
    """None where nothing was tried, or nothing could be seen."""
    seeds: int = 1
    """From `seed` on; each with each of the `batches`."""
    measured_decades_std: float | None = None
    """Over several runs: the standard deviation of `measured_decades`."""

    def to_dict(self) -> dict[str, Any]:
        """The object that stands under `probe`, `before` and `after` in the JSON."""
        result: dict[str, Any] = to_json(self)
        return result


@dataclass(frozen=True)
class ProbeReport(Printable):
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
        return document_head(self.target, self.inputs) | {"probe": self.probe.to_dict()}
