"""A parameter is overwritten in forward.

**What it does**
Finds trainable parameters that the forward pass writes to, or binds to a new `nn.Parameter`.

**Why is this bad**
What forward overwrites, the optimizer cannot train: its step is lost at the next forward pass, and weight decay and momentum
are applied to a value that is none of theirs. A parameter that forward binds anew is another tensor than the one that the
optimizer was given. Running statistics that are kept so also get gradients that nobody wants.

**Example**
    self.running_mean = nn.Parameter(torch.zeros(n))
    ...
    self.running_mean.data = 0.9 * self.running_mean.data + 0.1 * mean

**Use instead**
    self.register_buffer("running_mean", torch.zeros(n))
    ...
    with torch.no_grad():
        self.running_mean.lerp_(mean, 0.1)

A buffer is saved in the state dict and moves with the model, and no optimizer touches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_tool.results import Finding, Location
from gradcheck_tool.sources import locate

if TYPE_CHECKING:
    from torch import fx

    from gradcheck_tool.rules.view import View

CODE = "GT002"
NAME = "parameter-overwritten"


def check(view: View) -> Iterator[Finding]:
    """One finding for each place in the source that writes to parameters."""
    from gradcheck_tool.rules.view import by_place, named

    trainable = {name for name, p in view.model.named_parameters(remove_duplicate=False) if p.requires_grad}
    bound = {name: locate(where) for name, where in view.recording.bound.items() if name in trainable}
    written: dict[str, Location | None] = {}
    for node in view.structure.graph.nodes:
        name = _written_parameter(node)
        if name in trainable and name not in bound:
            written.setdefault(name, view.location_of_node(node))
    for places, how in ((bound, "bound to a new nn.Parameter"), (written, "overwritten")):
        for location, names in by_place(places.items()).items():
            several = len(names) > 1
            yield Finding(
                rule=CODE,
                name=NAME,
                severity="error",
                message=f"the parameter{'s' if several else ''} {named(names)} {'are' if several else 'is'} {how} in forward, "
                f"so no optimizer can train {'them' if several else 'it'}; use a buffer",
                layers=(),
                location=location,
                fix=None,
            )


def _written_parameter(node: fx.Node) -> str | None:
    """The name of the parameter that a node writes to in place, itself or through `.data`."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = node.op in ("call_method", "call_function") and name.endswith("_") and not name.endswith("__")
    sets_data = node.target is setattr and node.args[1] == "data"
    if name.rstrip("_") == "requires_grad" or not (in_place or sets_data or name == "setitem"):
        return None
    source = node.args[0] if node.args else None
    while getattr(source, "op", None) == "call_function" and source.target is getattr:  # type: ignore[union-attr]
        source = source.args[0]  # type: ignore[union-attr]
    return str(source.target) if getattr(source, "op", None) == "get_attr" else None  # type: ignore[union-attr]
