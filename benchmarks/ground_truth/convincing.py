"""How well a net must begin to learn for `fix --auto` to stop looking: every candidate that heals, trained.

`fix --auto` stops at the first with which the inputs explain `CLEARLY_BEGUN` of the loss. Here all are tried, and
looked at for as long as the largest of the `THRESHOLDS` asks for, so that each of these can be judged.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate
from torch.nn.functional import cross_entropy

from gradcheck_tool import auditing
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.fixing.auto import _attempt, candidates
from gradcheck_tool.inputs import for_model
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.probing.learning import learn
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.outcome import reached
from gradcheck_tool.remedy.plan import covered
from gradcheck_tool.results import Target
from gradcheck_tool.state import training_mode
from gradcheck_tool.target import Subject
from ground_truth.blocks import Cell
from ground_truth.judging import batch_of, best_of, outcome
from ground_truth.nets import build

THRESHOLDS = (0.03, 0.08, 0.15, 0.3)
SEED = 0


@dataclass(frozen=True)
class Candidate:
    """A net that looks healthy: the remedy that made it, the share of the loss that its inputs explain after up to 64
    steps, as far as the largest threshold, and what came of its training."""

    remedy: str
    explained: float
    outcome: str


def healed(cell: Cell) -> list[tuple[str, float, CapturedModule]]:
    """What `fix --auto` might take for the cell's net, in its order: the name of the remedy, the share of the loss that
    the inputs explain, the model. Empty where the net looks healthy as it is."""
    net, (x, y) = build(cell), batch_of(cell)
    subject = Subject(net, for_model(net, x, None, SEED), Target(cell.name, None, cell.name), cross_entropy, y)
    subject = measurable(subject, SEED, always=True)
    reading = auditing.read(net, subject.inputs)
    over = covered(reading.structure.chains, 1)
    before = measure(subject, SEED, reading, over or None)
    if before.verdict == "healthy":
        return []
    captured: CapturedModule = capture(net, subject.inputs)[0]
    case = Case(net, subject.inputs, reading.structure, 1, subject.births)
    found = []
    for remedy in candidates(trained=False):
        attempt = _attempt(remedy, captured, case, subject, SEED, reached(over, before), [])
        if attempt is None or attempt.profile.verdict != "healthy":
            continue
        with training_mode(attempt.model):
            learning = learn(attempt.model, subject.inputs, cross_entropy, y, SEED, THRESHOLDS[-1])
        found.append((remedy.name, 1.0 if learning is None else learning.explained, attempt.model))
    return found


def taken(tried: Sequence[Candidate], threshold: float) -> Candidate:
    """The one that `fix --auto` would take: the first that explains so much, or else the one that explains most."""
    convincing = [candidate for candidate in tried if candidate.explained >= threshold]
    return convincing[0] if convincing else max(tried, key=lambda candidate: candidate.explained)


def judge(cells: Iterable[Cell]) -> int:
    """Prints each candidate as it is trained, then the tables."""
    nets: list[list[Candidate]] = []
    for cell in cells:
        tried = []
        for remedy, explained, model in healed(cell):
            run = best_of(cell, lambda model=model: copy.deepcopy(model))  # type: ignore[misc]
            tried.append(Candidate(remedy, explained, outcome(run)))
            print(f"{outcome(run):6} {run.share:.2f}  explains {explained:7.4f}  {remedy}  {cell.name}", flush=True)
        nets += [tried] if tried else []
    _print("every candidate that looks healthy", nets)
    _print("of the nets that do not learn with the first of them", [net for net in nets if not _learns(net[0])])
    return 0


def _learns(candidate: Candidate) -> bool:
    return candidate.outcome == "learns"


def _print(title: str, nets: list[list[Candidate]]) -> None:
    everyone = [candidate for net in nets for candidate in net]
    rows = []
    for threshold in THRESHOLDS:
        above = [_learns(candidate) for candidate in everyone if candidate.explained >= threshold]
        below = [_learns(candidate) for candidate in everyone if candidate.explained < threshold]
        best = [_learns(taken(net, threshold)) for net in nets]
        rows.append((threshold, *(f"{sum(some)} of {len(some)}" for some in (above, below, best))))
    print(f"\n{title}: {len(everyone)} candidates of {len(nets)} nets; how many learn\n")
    print(tabulate(rows, ("threshold", "explain so much", "explain less", "of the nets, with what fix --auto takes")))
