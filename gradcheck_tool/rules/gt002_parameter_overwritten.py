"""A parameter is overwritten in forward.

**What it does**
Finds trainable parameters that the forward pass writes to, itself, through `.data` or through a view, or binds to a
new `nn.Parameter`.

**Why is this bad**
What forward overwrites, the optimizer cannot train: its step is lost at the next forward pass, and weight decay and
momentum are applied to a value that is none of theirs. A parameter that forward binds anew is another tensor than
the one that the optimizer was given. Running statistics that are kept so also get gradients that nobody wants.

**Known problems**
A write that keeps the parameter within bounds is left alone: `clamp_`, `renorm`, `normalize` of its own value. So
are parameters with `requires_grad=False`, such as those of a momentum encoder.

**Example**
    import torch
    from torch import nn

    class Center(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.running_mean = nn.Parameter(torch.zeros(n))

        def forward(self, x):
            self.running_mean.data = 0.9 * self.running_mean.data + 0.1 * x.mean(0).data
            return x - self.running_mean

    model = nn.Sequential(nn.Linear(8, 16), Center(16), nn.ReLU(), nn.Linear(16, 2))

**Use instead**
    import torch
    from torch import nn

    class Center(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(n))

        def forward(self, x):
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(0), 0.1)
            return x - self.running_mean

    model = nn.Sequential(nn.Linear(8, 16), Center(16), nn.ReLU(), nn.Linear(16, 2))

A buffer is saved in the state dict and moves with the model, and no optimizer touches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gradcheck_tool.results import Finding, Location
from gradcheck_tool.sources import locate

if TYPE_CHECKING:
    from torch import fx

    from gradcheck_tool.rules.view import View

CODE = "GT002"
NAME = "parameter-overwritten"

_BOUNDS = frozenset({"clamp", "clip", "clamp_min", "clamp_max", "renorm", "normalize"})
"""Ops that move a value into a permitted set and leave it alone there: a step of the optimizer outlasts them."""


def check(view: View) -> Iterator[Finding]:
    """One finding for each place in the source that writes to parameters."""
    from gradcheck_tool.chains.dataflow import written_operands
    from gradcheck_tool.rules.view import by_place, named

    trainable = {name for name, p in view.model.named_parameters(remove_duplicate=False) if p.requires_grad}
    modules = dict(view.model.named_modules(remove_duplicate=False))
    bound = {name: locate(where) for name, where in view.recording.bound.items() if name in trainable}
    written: dict[str, Location | None] = {}
    for node in view.structure.operations:
        for target in written_operands(node, modules):
            name = _parameter_behind(target, view)
            if name in trainable and name not in bound and not _keeps_bounds(node, name, view):
                written.setdefault(name, view.location_of_node(node))
    for places, how in ((bound, "bound to a new nn.Parameter"), (written, "overwritten")):
        for location, names in by_place(places.items()).items():
            noun, verb, them = ("parameters", "are", "them") if len(names) > 1 else ("parameter", "is", "it")
            yield Finding(
                rule=CODE,
                name=NAME,
                severity="error",
                message=f"the {noun} {named(names)} {verb} {how} in forward, so no optimizer can train {them}; "
                "use a buffer",
                layers=(),
                location=location,
                fix=None,
            )


def _parameter_behind(node: fx.Node, view: View) -> str | None:
    """The name of the parameter whose memory a node shares: itself, its `.data`, a view of it."""
    root = view.structure.flow.roots[node]
    return str(root.target) if root.op == "get_attr" else None


def _keeps_bounds(node: fx.Node, name: str, view: View) -> bool:
    """Whether what is written is the parameter's own value, moved into a permitted set."""
    operation = view.structure.operations[node]
    if operation.name in _BOUNDS:
        return True
    if operation.name not in ("setattr", "setitem", "copy"):
        return False
    value: Any = node.args[-1]
    made_by = view.structure.operations.get(value) if isinstance(value, type(node)) else None
    if made_by is None or made_by.name not in _BOUNDS:
        return False
    return any(_parameter_behind(part, view) == name for part in value.all_input_nodes)
