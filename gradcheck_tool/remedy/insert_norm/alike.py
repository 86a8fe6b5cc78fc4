"""A plan that treats alike what a person would treat alike in the source, for where the exact plan cannot be written
there: of the layers that one place makes, those that have an activation made beside them get norms, or all, or none.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from gradcheck_tool.chains import location_of
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.results import Location, Skip
from gradcheck_tool.wording import in_short

_Place = dict[Location | None, list[str]]
"""Calls of weight layers by where the module of their activation is made; None where none is."""


def alike(remedy: InsertNorm, plan: Plan, case: Case) -> Plan | None:
    """The plan of `remedy` that suits the places which make layers; None where `plan` is that already, where nothing is
    left of it, or where the remedy chooses among the layers itself.

    A layer that is no block (the head) takes no norm, nor does one that `remedy` has an objection to.
    """
    if remedy.placement != "all":
        return None
    planned = {norm.after for norm in insertions_of(plan)}
    places = _places(case)
    shared = [place for place in places if planned.intersection(_all(place)) and not planned.issuperset(_all(place))]
    asked = planned.union(*map(_all, shared))
    norms = {norm.after: norm for norm in insertions_of(InsertNorm(remedy.kind, lambda _: asked).plan(case))}
    skipped = list(plan.skipped)
    for place in shared:
        for made, names in place.items():
            inside = [name for name in names if name in planned]
            outside = [name for name in names if name not in planned]
            if inside and all(name in norms for name in names) and (made is not None or len(place) == 1):
                note = f"{in_short(outside)} too: the same place makes {in_short(inside)}"
                norms |= {name: replace(norms[name], note=note) for name in outside}
                continue
            others = in_short([name for name in _all(place) if name not in inside])
            skipped += [
                Skip(name, f"the source cannot tell it from {others}, made in the same place") for name in inside
            ]
            norms = {name: norm for name, norm in norms.items() if name not in names}
    return Plan(tuple(norms.values()), tuple(skipped)) if shared and norms else None


def _all(place: _Place) -> list[str]:
    return [name for names in place.values() for name in names]


def _places(case: Case) -> list[_Place]:
    """The calls of weight layers, by the place that makes them, or of functions where they stand."""
    beside = {block.name: case.births.get(str(block.activation.target)) for block in case.structure.blocks}
    found: dict[Location, _Place] = defaultdict(lambda: defaultdict(list))
    for call in case.structure.calls:
        where = location_of(call, case.births)
        if where is not None:
            found[where][beside.get(call.name)].append(call.name)
    return list(found.values())
