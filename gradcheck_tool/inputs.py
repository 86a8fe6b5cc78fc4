"""What a model is run with: an example, a specification, what the model carries, or what its first layers tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcheck_tool.results import Origin


@dataclass(frozen=True)
class Inputs:
    """The arguments of one forward pass: `model(*args, **kwargs)`.

    `origin` says where they come from; `note` says it to a person. `free_batch` is True where the batch size was
    chosen by gradtool, so that it may choose another.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = "option"
    note: str | None = None
    free_batch: bool = False
