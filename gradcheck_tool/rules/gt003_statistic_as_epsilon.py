"""A hand-written normalization adds a stored tensor to the variance, where epsilon belongs.

**What it does**
Finds normalizations written out in forward, (x − mean) / sqrt(var + e), in which e is a parameter or buffer with a value
per channel instead of a small number.

**Why is this bad**
Epsilon only keeps the division from failing where the variance is zero. A running variance in its place is as large as the
variance itself: the output then has a variance of about one half instead of one, each layer that is normalized so shrinks
the gradient by a factor of about 1.4, and the scale drifts as the running variance does.

**Example**
    x_hat = (x - mean) / torch.sqrt(var + self.running_var)

**Use instead**
    x_hat = (x - mean) / torch.sqrt(var + self.eps)

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
    from gradcheck_tool.ops import Kind

    forms = view.structure.forms
    pending, seen = [norm.spread], set()
    while pending:
        node = pending.pop()
        if node in seen or node is norm.base or forms.of.get(node) is None or forms.of[node].base is not norm.base:
            continue
        seen.add(node)
        if view.structure.operations[node].kind is Kind.SUM:
            for part in node.all_input_nodes:
                many = len([size for size in part.meta.get("shape", ()) if size > 1]) > 0
                if part.op == "get_attr" and many:
                    return node, str(part.target)
        pending.extend(node.all_input_nodes)
    return None
