"""Which axis of a value holds the channels, followed through the ops that move axes about."""

from __future__ import annotations

from typing import Any

from torch import fx

_PERMUTES = frozenset({"permute"})
_SWAPS = frozenset({"transpose", "swapaxes", "swapdims", "t", "T", "mT"})
_RESHAPES = frozenset({"flatten", "reshape", "view", "Flatten", "squeeze", "unsqueeze", "getitem", "select", "mean"})


def axis_behind(node: fx.Node, name: str, source: fx.Node, axis: int | None) -> int | None:
    """The axis of the channels in `node`, where it was `axis` in `source`; None: not known (any more)."""
    before, after = source.meta.get("shape"), node.meta.get("shape")
    if axis is None or not before or not after:
        return axis
    if name in _PERMUTES:
        given = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
        dims = [_int(d) % len(before) for d in given if isinstance(d, int)]
        return dims.index(axis) if len(dims) == len(before) else None
    if name in _SWAPS:
        one, other = (_int(d) % len(before) for d in (node.args[1:3] if len(node.args) > 2 else (-1, -2)))
        return {one: other, other: one}.get(axis, axis)
    if name in _RESHAPES and len(before) != len(after):
        if len(after) > axis and before[: axis + 1] == after[: axis + 1]:
            return axis
        if axis == len(before) - 1 and before[-1] == after[-1]:
            return len(after) - 1
        # A map flattened into features: each feature is an element of a channel
        return 1 if len(after) == 2 and axis == 1 else None
    if (
        name in _RESHAPES
        and before != after
        and before[: axis + 1] != after[: axis + 1]
        and before[axis] != after[axis]
    ):
        return None if name in ("reshape", "view") else axis
    return axis


def _int(value: Any) -> int:
    return int(value)
