"""The chains of public architectures, on the meta device, against what their sources say."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from families import ROWS, Row

import gradcheck_tool as gct


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.zoo}-{row.name}") for row in ROWS])
def test_chains_are_those_that_the_source_holds(row: Row) -> None:
    if row.zoo != "here":
        pytest.importorskip(row.zoo, reason=f"{row.zoo} is not installed")
    with torch.device(row.device):
        model = row.build()
        report = gct.audit(model, row.example(model), select=["GT001"])
    listed = "\n".join(f"{chain.depth}: {' '.join(chain.layers)}" for chain in report.chains)
    assert Counter(chain.depth for chain in report.chains) == Counter(row.chains), f"{row.why}\n{listed}"
    assert [chain.depth for chain in report.chains] == row.depths, "not deepest first"
    assert [len(finding.layers) for finding in report.findings] == [depth for depth in row.depths if depth >= 4]
    if row.not_analyzed:
        assert any(row.not_analyzed in f"{entry.node} {entry.reason}" for entry in report.not_analyzed)
    else:
        assert report.not_analyzed == ()
