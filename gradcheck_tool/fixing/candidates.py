"""What `fix --auto` tries, and in which order."""

from __future__ import annotations

from gradcheck_tool.remedy.activations import ChangeActivation
from gradcheck_tool.remedy.base import Case, Remedy
from gradcheck_tool.remedy.branches import ScaleBranches
from gradcheck_tool.remedy.combination import Combination
from gradcheck_tool.remedy.dropout import LessDropout
from gradcheck_tool.remedy.insert_norm import InsertNorm
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.scale_inputs import ScaleInputs
from gradcheck_tool.remedy.shortcuts import AddShortcuts

_TRAINED = (InsertNorm("auto"), InsertNorm("layer"))
"""What leaves the weights of a model that has learned already as they are."""

_SHORTCUTS: tuple[Remedy, ...] = (
    AddShortcuts(),
    Combination((Reinitialize(odd_sizes=True), AddShortcuts())),
    Combination((ScaleInputs(), AddShortcuts())),
    Combination((LessDropout(), AddShortcuts())),
)
_NORMS: tuple[Remedy, ...] = (
    InsertNorm("auto"),
    InsertNorm("layer"),
    Combination((Reinitialize(odd_sizes=True), InsertNorm("auto"))),
)

_FRESH: tuple[Remedy, ...] = (
    ScaleInputs(),
    Reinitialize(),
    Combination((ScaleInputs(), Reinitialize())),
    LessDropout(),
    Combination((LessDropout(), Reinitialize())),
    ScaleBranches(),
    Combination((Reinitialize(), ScaleBranches())),
    Combination((ChangeActivation(), Reinitialize())),
    ChangeActivation(),
    *_SHORTCUTS,
    *_NORMS,
    Combination((ChangeActivation(), Reinitialize(odd_sizes=True), InsertNorm("auto"))),
)
"""What draws numbers anew before what exchanges a function, and that before what adds to the net; of that shortcuts
before norms, which heal less."""

_TAMED = ChangeActivation(growing_alone=True)
_GROWING: tuple[Remedy, ...] = (
    Combination((_TAMED, Reinitialize(odd_sizes=True))),
    _TAMED,
    *(
        Combination((_TAMED, *(remedy.remedies if isinstance(remedy, Combination) else (remedy,))))
        for remedy in (ScaleInputs(), Combination((ScaleInputs(), Reinitialize())), LessDropout(), *_SHORTCUTS, *_NORMS)
    ),
)
"""Where an activation outgrows its input, as e^x does, nothing is tried that leaves it in: with new weights or norms
around it nets look healthy and do not train."""


def candidates(case: Case, trained: bool) -> tuple[Remedy, ...]:
    """The remedies to try, from the smallest. Chosen by real trainings (benchmarks/remedies.py,
    benchmarks/trainability.py).

    Args:
        case: the model.
        trained: whether it has learned already: then nothing is tried that throws its weights away.

    Raises:
        GradtoolError: the model cannot be captured.
    """
    if trained:
        return _TRAINED
    return _GROWING if _TAMED.plan(case).steps else _FRESH
