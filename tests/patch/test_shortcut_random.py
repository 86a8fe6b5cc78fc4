"""Shortcuts, written into random sources: those that are written do what the graph does."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_shortcuts import outcome
from random_sources import source


@pytest.mark.parametrize("seed", range(16))
def test_shortcuts_in_a_random_source_do_what_the_graph_does(seed: int, tmp_path: Path) -> None:
    found = outcome(source(seed), tmp_path / "source")
    assert found.kind != "wrong", f"{found.reason}\n{found.after}"
