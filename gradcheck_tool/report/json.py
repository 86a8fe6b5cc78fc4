"""A result as the documented JSON: its `to_dict()`, indented. The schemas are in `gradcheck_tool.schemas`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck_tool.report import Result


def render(result: Result, *, color: bool = False, verbosity: int = 0) -> str:
    """The JSON document. `color` and `verbosity` change nothing: a program reads this."""
    # ASCII alone, so that the document survives any terminal's or pipe's encoding; NaN would be no JSON.
    return json.dumps(result.to_dict(), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
