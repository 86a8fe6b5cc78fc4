"""What the written files call: the user's model, built, and the plan carried out on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.results import Insertion

if TYPE_CHECKING:
    from gradcheck_tool.remedy.base import Case
    from gradcheck_tool.target import Subject


def build_fixed(
    spec: str,
    plan: Sequence[tuple[str, str, int] | tuple[str, str, int, int]],
    inputs: Sequence[str] = (),
    folder: Path | None = None,
    without_bias: Sequence[str] = (),
) -> nn.Module:
    """Builds the model that `spec` names and inserts the norms of `plan`: what the written file calls.

    The weights are drawn anew, by torch's global random state, as the model's own constructor would draw them.

    Args:
        spec: a TARGET, as on the command line.
        plan: (call, class of torch.nn, channels) for each norm, and the groups of a GroupNorm.
        inputs: as `--input` takes them; what the model or its file says of them where empty.
        folder: from which the module that `spec` names is imported; it stays at the end of the import path.
        without_bias: layers whose bias is taken away.

    Raises:
        GradtoolError: the model cannot be built, or has no such layers any more.
    """
    from gradcheck_tool.capturing import capture
    from gradcheck_tool.remedy.bias import drop_biases
    from gradcheck_tool.remedy.rewrite import insert

    subject, _ = _loaded(spec, inputs, folder)
    captured, _ = capture(subject.model, subject.inputs)
    try:
        fixed = insert(captured, [_insertion(*row) for row in plan])
        return drop_biases(fixed, without_bias)
    except KeyError as error:
        raise _changed(spec, error) from error


def build_remedied(
    spec: str,
    *,
    gains: Sequence[tuple[str, float, float]] = (),
    shortcuts: Sequence[str] = (),
    inputs: Sequence[str] = (),
    folder: Path | None = None,
) -> nn.Module:
    """Builds the model that `spec` names, draws the weights of `gains` and adds `shortcuts`: what the written file
    calls.

    All weights are drawn by torch's global random state, those that stay as the model's own constructor draws them.

    Args:
        spec: a TARGET, as on the command line.
        gains: (layer, σ_w, the mean of its inputs that its biases take away) for each layer.
        shortcuts: the layers around whose blocks shortcuts lead; with any the result is a torch.fx.GraphModule.
        inputs: as `--input` takes them; what the model or its file says of them where empty.
        folder: from which the module that `spec` names is imported; it stays at the end of the import path.

    Raises:
        GradtoolError: the model cannot be built, or has no such layers any more.
    """
    from gradcheck_tool import auditing
    from gradcheck_tool.capturing import capture
    from gradcheck_tool.remedy.base import Case, Plan
    from gradcheck_tool.remedy.shortcuts import AddShortcuts, Shortcut

    subject, seed = _loaded(spec, inputs, folder)
    case = Case(subject.model, subject.inputs, auditing.read(subject.model, subject.inputs).structure, 1)
    try:
        if gains:
            _redraw(case, gains, seed)
        if not shortcuts:
            return subject.model
        plan = Plan(tuple(Shortcut(layer, None) for layer in shortcuts))
        return AddShortcuts().apply(capture(subject.model, subject.inputs)[0], plan, case)
    except KeyError as error:
        raise _changed(spec, error) from error


def _redraw(case: Case, gains: Sequence[tuple[str, float, float]], seed: int) -> None:
    from gradcheck_tool.remedy.layers import call_named
    from gradcheck_tool.remedy.reinitialize import Planner, redraw

    biases = Planner(case, "orthogonal").biases
    calls = [{call.name: call for call in case.structure.calls}]
    for layer, gain, centre in gains:
        call = call_named(layer, calls)[0]
        redraw(case.model, call, call.parameter, biases[call], gain, "orthogonal", centre, seed)


def _loaded(spec: str, inputs: Sequence[str], folder: Path | None) -> tuple[Subject, int]:
    """The model and its inputs, and the seed that it was built with."""
    from gradcheck_tool.target import load_subject

    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    seed = int(torch.randint(2**31, ()).item())
    return load_subject(spec, input_specs=tuple(inputs), seed=seed), seed


def _changed(spec: str, error: KeyError) -> GradtoolError:
    reason = f"{spec} has changed since the plan was made: {error.args[0]}"
    return GradtoolError(reason, hint="run gradtool fix again")


def _insertion(after: str, norm: str, channels: int, groups: int | None = None) -> Insertion:
    return Insertion(after, norm, channels, None, groups)
