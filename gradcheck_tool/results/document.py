"""What every result shares: how it turns into the documented JSON, and what it says it was made of.

A value becomes JSON types by `to_json`; each JSON document begins with the same head: tool, target, inputs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gradcheck_tool._version import __version__

SCHEMA_VERSION = 1

Origin = Literal["option", "file", "model", "inferred"]


def to_json(value: Any) -> Any:
    """`value` as JSON types. Dataclasses become objects by field name (fields marked `json=False` are left out);
    a figure that is not finite becomes the string "inf", "-inf" or "nan"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            entry.name: to_json(getattr(value, entry.name))
            for entry in dataclasses.fields(value)
            if entry.metadata.get("json", True)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@dataclass(frozen=True)
class Tool:
    """Which gradtool, on which torch, made a report."""

    name: str
    version: str
    torch: str


def this_tool() -> Tool:
    """The running gradtool and the installed torch."""
    import torch

    return Tool("gradtool", __version__, torch.__version__.split("+")[0])


@dataclass(frozen=True)
class Target:
    """What was looked at: the TARGET as typed, the user's file (None for an object handed over in Python), its name."""

    spec: str
    file: str | None
    object: str


@dataclass(frozen=True)
class InputSpec:
    """One tensor that the model was given. `shape` includes the batch; `dtype` is torch's name without `torch.`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: Origin
    note: str | None = field(default=None, metadata={"json": False})
    """How it was found, for people: "read off Linear(784, 512) at model.py:8"."""


def document_head(target: Target, inputs: tuple[InputSpec, ...]) -> dict[str, Any]:
    """The head that every JSON document shares."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": to_json(this_tool()),
        "target": to_json(target),
        "inputs": to_json(inputs),
    }


class Printable:
    """Prints as its text report."""

    def __str__(self) -> str:
        from gradcheck_tool.report import render

        result: Any = self  # one of the subclasses below
        return render(result, "text")
