"""What was asked of `load_subject`, as a value: so that the same can be asked again, in another process."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck_tool.target import Subject


@dataclass(frozen=True)
class LoadRequest:
    """The arguments of `load_subject`, by their names."""

    spec: str
    input_specs: tuple[str, ...] = ()
    inputs_from: str | None = None
    weights: str | None = None
    device: str | None = None
    seed: int = 0
    timeout: float = 60.0
    batches: int = 1

    def load(self) -> Subject:
        """The subject that was asked for."""
        from gradcheck_tool.target import load_subject

        return load_subject(**{entry.name: getattr(self, entry.name) for entry in fields(self)})
