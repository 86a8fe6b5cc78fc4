"""JSON Schemas (draft 2020-12) of what `--format json` writes: one file a document, each complete by itself."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

NAMES = ("audit", "probe", "fix")


def load(name: str) -> dict[str, Any]:
    """The schema of the document `name`, one of `NAMES`.

    Raises:
        ValueError: there is no such document.
    """
    if name not in NAMES:
        raise ValueError(f"there is no schema {name!r}, only {', '.join(NAMES)}")
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
