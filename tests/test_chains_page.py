"""docs/chains.md: every example prints what the page shows below it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parent.parent / "docs" / "chains.md").read_text(encoding="utf-8")


def test_every_example_prints_what_is_shown() -> None:
    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", *["python", "text"] * 5]
    space: dict[str, Any] = {}
    printed = ""
    for kind, text in blocks:
        if kind == "text":
            assert printed == text
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, "chains.md", "exec"), space)
        printed = out.getvalue()
