"""A hand-written normalization adds a stored tensor to the variance, where epsilon belongs.

**What it does**
Finds normalizations written out in forward, (x − mean) / sqrt(var + e), in which e is a parameter or buffer with a
value per channel instead of a small number.

**Why is this bad**
Epsilon only keeps the division from failing where the variance is zero. A running variance in its place is as large
as the variance itself: the output then has a variance of about one half instead of one, each layer that is
normalized so shrinks the gradient by a factor of about 1.4, and the scale drifts as the running variance does.

**Example**
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.register_buffer("running_var", torch.ones(n))

        def forward(self, x):
            mean, var = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.running_var.lerp_(var, 0.1)
            return (x - mean) / torch.sqrt(var + self.running_var)

    model = nn.Sequential(nn.Linear(8, 16), Norm(16), nn.ReLU(), nn.Linear(16, 2))

**Use instead**
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.register_buffer("running_var", torch.ones(n))

        def forward(self, x):
            mean, var = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.running_var.lerp_(var, 0.1)
            return (x - mean) / torch.sqrt(var + 1e-5)

    model = nn.Sequential(nn.Linear(8, 16), Norm(16), nn.ReLU(), nn.Linear(16, 2))

or `nn.BatchNorm1d`, which does all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_tool.results import Finding

if TYPE_CHECKING:
    from torch import fx

    from gradcheck_tool.norms import HandWrittenNorm
    from gradcheck_tool.rules.view import View

CODE = "GT003"
NAME = "statistic-as-epsilon"


def check(view: View) -> Iterator[Finding]:
    """One finding for each place in the source that adds a stored tensor to the spread of a normalization."""
    from gradcheck_tool.rules.view import by_place, named

    found = [_stored_epsilon(view, norm) for norm in view.structure.forms.norms.values()]
    pairs = [(name, view.location_of_node(node)) for node, name in filter(None, found)]
    for location, names in by_place(pairs).items():
        verb = "are" if len(names) > 1 else "is"
        yield Finding(
            rule=CODE,
            name=NAME,
            severity="error",
            message=f"{named(names)} {verb} added to the variance where epsilon belongs, which scales the output down",
            layers=(),
            location=location,
            fix=None,
        )


def _stored_epsilon(view: View, norm: HandWrittenNorm) -> tuple[fx.Node, str] | None:
    """The node that adds a stored tensor of more than one value to the spread of `norm`, and the tensor's name."""
    from gradcheck_tool.norms import Tag
    from gradcheck_tool.ops import Kind

    forms, flow = view.structure.forms.of, view.structure.flow
    for node in _cone(norm.spread, norm, view):
        if view.structure.operations[node].kind is not Kind.SUM:
            continue
        parts = [source.node for source in flow.sources[node]]
        spreads = [
            part for part in parts if part in forms and forms[part].tag is Tag.SPREAD and forms[part].base is norm.base
        ]
        for part in parts:
            name = _stored(part, view)
            if name is None and len(spreads) > 1 and part in spreads:
                # a running statistic that was computed from this very spread before it is added to it
                below = [lower for inner in _cone(part, norm, view) for lower in inner.all_input_nodes]
                names = [_stored(lower, view, scaled=True) for lower in below]
                name = next(filter(None, names), None)
            if name is not None:
                return node, name
    return None


def _cone(start: fx.Node, norm: HandWrittenNorm, view: View) -> Iterator[fx.Node]:
    """The ops behind `start` that are computed from the tensor that `norm` normalizes, and are not that tensor."""
    pending, seen = [start], set()
    while pending:
        node = pending.pop()
        form = view.structure.forms.of.get(node)
        if node in seen or node is norm.base or form is None or form.base is not norm.base:
            continue
        seen.add(node)
        yield node
        pending.extend(source.node for source in view.structure.flow.sources[node])


def _stored(node: fx.Node, view: View, scaled: bool = False) -> str | None:
    """The name of the parameter or buffer of more than one value that a node is, a view of it or, where `scaled`, a
    multiple; None where it is none."""
    from gradcheck_tool.ops import Kind

    seen = node
    through = (Kind.PASSING, Kind.CUT, Kind.PRODUCT) if scaled else (Kind.PASSING, Kind.CUT)
    while seen.op != "get_attr":
        below = view.structure.flow.roots[seen]
        if below is seen:
            operation = view.structure.operations.get(seen)
            if operation is None or operation.kind not in through or len(seen.all_input_nodes) != 1:
                return None
            below = seen.all_input_nodes[0]
        seen = below
    return str(seen.target) if any(size > 1 for size in seen.meta.get("shape", ())) else None
