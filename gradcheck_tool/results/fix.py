"""What fix returns: the plan, what was left out of it, the fixed model, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck_tool.results.document import InputSpec, Printable, Target, document_head, to_json
from gradcheck_tool.results.finding import Location
from gradcheck_tool.results.profile import GradientProfile, Verdict

if TYPE_CHECKING:
    from torch import fx


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
    what its inputs explain of the loss after some steps of Adam (None without a loss), and what it costs, measured:
    parameters added, and the time of a training step and the memory held for the backward pass over those of the model
    as it was. `breaks`: what it costs besides, a sentence each."""

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
    explained: float | None = None


@dataclass(frozen=True)
class FixResult(Printable):
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
    advice: tuple[str, ...] = ()
    """What heals better or smaller, and where norms may hurt: sentences, each from something measured or predicted."""

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON of `fix`."""
        return document_head(self.target, self.inputs) | {
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
            "advice": to_json(self.advice),
        }
