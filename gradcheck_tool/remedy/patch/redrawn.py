"""What a model whose source draws new weights has to be, as plain data, and the check that it is.

Its weights are other ones at every start, so nothing is compared value by value: the keys and shapes are the old ones,
each planned weight has the planned second moment and each bias its value, all others have the distribution that they
had, it runs, at two batch sizes where it takes them, and the probe finds it healthy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.layers import Layout
from gradcheck_tool.remedy.patch.behaviour import run
from gradcheck_tool.remedy.patch.drawing_code import Draw
from gradcheck_tool.remedy.patch.expectation import other_batch, said
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.state import preserved, training_mode
from gradcheck_tool.target import Subject

_EXACT = 0.02
"""Relative error of a second moment that is not sampling: the numbers in the source are rounded."""
_ERRORS = 6.0
"""Standard errors of a second moment that chance is granted; of normal values that is √(2/n), of others less."""
_BIAS = 0.02


@dataclass(frozen=True)
class Redrawn:
    """The planned `draws`; by each key of the state dict its shape and dtype in words, and of floating entries that
    stay as they are the mean and the root mean square; the chains that are measured over, and the seed of that."""

    draws: Sequence[Draw]
    entries: Mapping[str, str]
    moments: Mapping[str, tuple[float, float]]
    over: Sequence[Sequence[str]]
    seed: int
    heals: bool = True
    """Whether the model is to be healthy: not where another remedy follows."""

    def save(self, file: Path) -> None:
        """Writes it as JSON."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def load(file: Path) -> Redrawn:
    """Reads what `Redrawn.save` wrote."""
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    draws = [_draw(draw) for draw in data["draws"]]
    moments = {key: (mean, rms) for key, (mean, rms) in data["moments"].items()}
    return Redrawn(draws, data["entries"], moments, data["over"], data["seed"], data["heals"])


def _draw(data: Mapping[str, Any]) -> Draw:
    tuples = {name: tuple(data[name]) for name in ("shape", "spelled")}
    return Draw(**{**data, **tuples, "layout": Layout(**data["layout"])})


def expect_redrawn(
    model: nn.Module, draws: Sequence[Draw], over: Sequence[Sequence[str]], seed: int, heals: bool = True
) -> Redrawn:
    """What the changed source of `model` has to build."""
    entries = {key: _kind(value) for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    drawn = {id(parameters[name]) for draw in draws for name in (draw.weight, draw.bias) if name is not None}
    moments = {
        key: _moments(value)
        for key, value in model.state_dict(keep_vars=True).items()
        if id(value) not in drawn and isinstance(value, Tensor) and value.is_floating_point() and value.numel()
    }
    return Redrawn(draws, entries, moments, [list(chain) for chain in over], seed, heals)


def check_redrawn(build: Callable[[], Subject], expected: Redrawn) -> None:
    """Builds the model from the changed source and looks at it.

    Raises:
        Refused: it does not build, or is not as expected.
    """
    try:
        subject = build()
    except GradtoolError as error:
        raise Refused(f"the patched source does not load: {said(error)}") from error
    model = subject.model
    _compare_entries(model, expected)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for draw in expected.draws:
        _compare_draw(draw, parameters)
    state = model.state_dict()
    for key, (mean, rms) in expected.moments.items():
        _compare_rest(key, state[key], mean, rms)
    try:
        _run_twice(subject, expected.seed)
        if not expected.heals:
            return
        profile = measure(measurable(subject, expected.seed, always=True), expected.seed, over=expected.over or None)
    except GradtoolError as error:
        raise Refused(f"the patched model does not run: {said(error)}") from error
    if profile.verdict != "healthy":
        reason = f" ({profile.reasons[0]})" if profile.reasons else ""
        raise Refused(f"with the weights that the patched source draws the model is {profile.verdict}{reason}")


def _compare_entries(model: nn.Module, expected: Redrawn) -> None:
    now = {key: _kind(value) for key, value in model.state_dict().items()}
    if now.keys() != expected.entries.keys():
        changed = sorted(now.keys() ^ expected.entries.keys())
        raise Refused(f"the patched model has other keys in its state dict: {', '.join(changed[:3])}")
    for key, kind in expected.entries.items():
        if now[key] != kind:
            raise Refused(f"{key} of the patched model is {now[key]}, not {kind}")


def _compare_draw(draw: Draw, parameters: Mapping[str, nn.Parameter]) -> None:
    weight = parameters[draw.weight].detach().double()
    now = float(weight.square().mean())
    bound = _EXACT + _ERRORS * math.sqrt(2.0 / weight.numel()) * (not draw.is_orthogonal)
    if not abs(now / draw.second_moment - 1.0) <= bound:
        figures = f"a standard deviation of {math.sqrt(now):.3g}, not {math.sqrt(draw.second_moment):.3g}"
        raise Refused(f"the patched source gives {draw.weight} {figures}")
    if draw.bias is None:
        return
    bias = parameters[draw.bias].detach().double()
    wanted = torch.zeros_like(bias)
    if draw.centre:
        wanted -= (draw.centre * draw.layout.taps * draw.layout.matrices(weight).sum(-1).flatten()).expand_as(bias)
    if not float((bias - wanted).abs().max()) <= _BIAS * float(wanted.abs().max()):
        raise Refused(f"the patched source gives {draw.bias} other values than planned")


def _compare_rest(key: str, value: Tensor, mean: float, rms: float) -> None:
    """That what was not to be drawn anew is drawn as before, as far as so many values tell."""
    now_mean, now_rms = _moments(value)
    chance = _ERRORS / math.sqrt(value.numel())
    if not all(map(math.isfinite, (mean, rms))):
        return
    if not (abs(now_mean - mean) <= (chance + _EXACT) * rms and abs(now_rms - rms) <= (chance + _EXACT) * rms):
        raise Refused(f"the patched source changes {key}, which was to stay as it is")


def _run_twice(subject: Subject, seed: int) -> None:
    model, inputs = subject.model, measurable(subject, seed, always=True).inputs
    with preserved(model, values=True), training_mode(model):
        for one in (inputs, *other_batch(model, inputs, seed)):
            run(model, one, seed)


def _moments(value: Tensor) -> tuple[float, float]:
    wide = value.detach().double()
    return float(wide.mean()), float(wide.square().mean().sqrt())


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{'x'.join(map(str, value.shape)) or 'a number'} {str(value.dtype).removeprefix('torch.')}"
