"""A plan that treats alike what one place in the source makes, for where the exact one cannot be written there: the
rest of such a place gets norms too, or where some of it takes none, nothing of it gets one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from gradcheck_tool.chains import location_of
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.results import Location, Skip
from gradcheck_tool.wording import in_short


def alike(remedy: InsertNorm, plan: Plan, case: Case) -> Plan | None:
    """The plan of `remedy` with every place either in it or not; None where `plan` is that already, where nothing is
    left of it, or where the remedy chooses among the layers itself.

    A layer that is no block (the head) takes no norm, nor does one that `remedy` has an objection to.
    """
    if remedy.placement != "all":
        return None
    planned = {norm.after for norm in insertions_of(plan)}
    shared = [
        names for names in _by_place(case).values() if planned.intersection(names) and not planned.issuperset(names)
    ]
    asked = planned.union(*shared)
    norms = {norm.after: norm for norm in insertions_of(InsertNorm(remedy.kind, lambda _: asked).plan(case))}
    skipped = list(plan.skipped)
    for names in shared:
        inside = [name for name in names if name in planned]
        outside = [name for name in names if name not in planned]
        without = [name for name in outside if name not in norms]
        if without:
            reason = f"it shares its place in the source with {in_short(without)}, where no norm goes"
            skipped += [Skip(name, reason) for name in inside]
            norms = {name: norm for name, norm in norms.items() if name not in names}
        else:
            reason = f"{in_short(outside)} too: the same place makes {in_short(inside)}"
            norms |= {name: replace(norms[name], note=reason) for name in outside}
    return Plan(tuple(norms.values()), tuple(skipped)) if shared and norms else None


def _by_place(case: Case) -> dict[Location, list[str]]:
    """The calls of weight layers by the place that makes them, or of functions where they stand."""
    found: dict[Location, list[str]] = defaultdict(list)
    for call in case.structure.calls:
        place = location_of(call, case.births)
        if place is not None:
            found[place].append(call.name)
    return found
