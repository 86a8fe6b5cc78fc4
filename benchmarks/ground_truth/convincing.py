"""How much a net must have learned for `fix --auto` to stop looking: every candidate that heals, trained.

`fix --auto` stops at the first whose inputs soon explain a `CONVINCING` share of the loss, with no figure against it.
Here all are tried, so that other shares can be judged.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate
from torch.nn.functional import cross_entropy

from gradcheck_tool import auditing
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.fixing.auto import _Attempt, _attempt
from gradcheck_tool.fixing.candidates import candidates
from gradcheck_tool.inputs import for_model
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.base import Case, Step
from gradcheck_tool.remedy.outcome import reached
from gradcheck_tool.remedy.plan import covered
from gradcheck_tool.results import Target
from gradcheck_tool.target import Subject
from ground_truth.blocks import Cell
from ground_truth.judging import batch_of, best_of, outcome
from ground_truth.nets import build

SEED = 0
ENDS = ("learns", "half", "not")
SHARES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Candidate:
    """A net that looks healthy: how it came to be, and what came of its training."""

    attempt: _Attempt
    outcome: str

    @property
    def begun(self) -> str:
        """When its inputs explained enough, in words."""
        seen = self.attempt.profile.learning
        if seen is None:
            return "unknown"
        if seen.overrules:
            return "figures against it"
        return f"after {seen.last_steps:2} steps" if seen.learns else "not clearly"


def healed(cell: Cell) -> list[_Attempt]:
    """What `fix --auto` might take for the cell's net, in its order. Empty where the net looks healthy as it is."""
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
    planned: list[tuple[Step, ...]] = []
    found = [
        _attempt(remedy, captured, case, subject, SEED, reached(over, before), [], planned)
        for remedy in candidates(case, trained=False)
    ]
    return [attempt for attempt in found if attempt is not None and attempt.heals]


def taken(tried: Sequence[Candidate], share: float) -> Candidate:
    """The one that `fix --auto` would take if such a share were its limit: the first that convinces, or else the best
    by its rank."""
    convincing = [candidate for candidate in tried if candidate.attempt.convinces(share)]
    return convincing[0] if convincing else max(tried, key=lambda candidate: candidate.attempt.rank)


def judge(cells: Iterable[Cell]) -> int:
    """Prints each candidate as it is trained, then the tables."""
    nets: list[list[Candidate]] = []
    for cell in cells:
        tried = []
        for attempt in healed(cell):
            run = best_of(cell, lambda model=attempt.model: copy.deepcopy(model))  # type: ignore[misc]
            tried.append(Candidate(attempt, outcome(run)))
            print(
                f"{outcome(run):6} {run.share:.2f}  {tried[-1].begun:18}  {attempt.remedy.name}  {cell.name}",
                flush=True,
            )
        nets += [tried] if tried else []
    everyone = [candidate for net in nets for candidate in net]
    counts = Counter((candidate.begun, candidate.outcome) for candidate in everyone)
    begun = sorted({candidate.begun for candidate in everyone})
    print(f"\n{len(everyone)} candidates of {len(nets)} nets that look healthy, by when they begin to learn\n")
    print(tabulate([(when, *(counts[when, end] for end in ENDS)) for when in begun], ("", *ENDS)))
    rows = []
    for share in SHARES:
        ends = Counter(taken(net, share).outcome for net in nets)
        rows.append((share, *(ends[end] for end in ENDS)))
    print("\nof the nets, with what fix --auto would take if it stopped at one that soon explains such a share\n")
    print(tabulate(rows, ("share", *ENDS)))
    return 0
