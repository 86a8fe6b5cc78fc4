"""The patch of every random source is right: 60 of them, and 1,000 with `--hypothesis-profile=long`.

The features that the sources had, and the reasons why some were refused, are counted and printed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from found_sources import FOUND
from hypothesis import HealthCheck, given, settings
from random_patches import Outcome, is_small, outcome, outputs, planned, visited
from random_sources import FEATURES, RARE, Source, source, sources

from gradcheck_tool.remedy.insert_norm import KINDS, NormKind

LONG = settings.default.max_examples > 100
SOURCES = settings.default.max_examples if LONG else 60
EXAMPLES = settings(
    settings.default,
    max_examples=SOURCES * 6 // 5,  # some are drawn twice
    derandomize=not LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
DRAWS = 500


def shares(counts: Counter[str], total: int) -> str:
    return ", ".join(f"{name} {counts[name]} ({100 * counts[name] / max(total, 1):.0f} %)" for name in FEATURES)


def test_the_patch_of_every_random_source_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features: Counter[str] = Counter()
    results: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    seen: set[str] = set()

    @EXAMPLES
    @given(sources())
    def check(drawn: Source) -> None:
        if repr(drawn) in seen:
            return
        result: Outcome = outcome(drawn, tmp_path / str(len(list(tmp_path.iterdir()))))
        assert result.kind != "wrong", f"wrong patch: {result.reason}\n{drawn}\n# ==== patched ====\n{result.after}"
        seen.add(repr(drawn))
        features.update(drawn.features)
        results[result.kind] += 1
        refusals[result.reason] += result.kind == "refused"

    try:
        check()
    finally:
        with capsys.disabled():
            print(f"\n{len(seen)} random sources:", ", ".join(f"{kind} {n}" for kind, n in results.items()))
            print("with:", shares(features, len(seen)))
            print(*(f"refused {n}: {reason}\n" for reason, n in refusals.most_common() if reason), sep="")
    assert len(seen) >= SOURCES
    assert not LONG or [name for name in FEATURES if features[name] < 0.03 * len(seen)] == []
    assert results["refused"] < max(0.05 * len(seen), 4), "a refusal is the exception"


@pytest.mark.parametrize("norm", [kind for kind in KINDS if kind != "batch"])
def test_so_is_that_of_other_norms(norm: NormKind, tmp_path: Path) -> None:
    """Of fewer sources, since most of the way is the same."""
    results: Counter[str] = Counter()
    for seed in range(SOURCES // 6):
        drawn = source(20_000 + seed)
        result = outcome(drawn, tmp_path / str(seed), norm)
        assert result.kind != "wrong", f"wrong patch: {result.reason}\n{drawn}\n# ==== patched ====\n{result.after}"
        results[result.kind] += 1
    assert results["patched"] > results["refused"]


@pytest.mark.parametrize(("kind", "files"), FOUND.values(), ids=FOUND)
def test_the_patch_is_right_where_one_once_was_not(kind: str, files: dict[str, str], tmp_path: Path) -> None:
    result = outcome(Source(files, frozenset()), tmp_path / "source")
    assert result.kind == kind, f"{result.kind}: {result.reason}\n{result.after}"


# -- what the test would see -------------------------------------------------------------------------------------------

_BEFORE = """\
from torch import nn, randn

h = 8
model = nn.Sequential(
    nn.Linear(4, h), nn.Sigmoid(),  # in
    nn.Linear(h, h), nn.Sigmoid(),
    nn.Linear(h, h), nn.Sigmoid(),
    nn.Linear(h, h), nn.Sigmoid(),
    nn.Linear(h, 2),
)
example_inputs = randn(6, 4)
"""
_AFTER = _BEFORE.replace("h), nn.S", "h), nn.BatchNorm1d(h), nn.S")
AFTER = {
    "patched": _AFTER,
    "norms behind the activations": _BEFORE.replace("Sigmoid(),", "Sigmoid(), nn.BatchNorm1d(h),"),
    "one norm is missing": _AFTER.replace("nn.BatchNorm1d(h), ", "", 1),
    "one norm too many": _AFTER.replace("2),", "2), nn.BatchNorm1d(2),"),
    "another kind of norm": _AFTER.replace("BatchNorm1d(h)", "LayerNorm(h)"),
    "a comment is lost": _AFTER.replace("  # in", ""),
    "a layer is another": _AFTER.replace("nn.Linear(4, h)", "nn.Linear(4, h, False)"),
    "it does not load": _AFTER + "oops\n",
    "a line is formatted anew": _AFTER.replace("randn(6, 4)", "randn(6,  4)"),
}


@pytest.mark.parametrize("name", AFTER)
def test_a_wrong_patch_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def propose(*_: object) -> list[SimpleNamespace]:
        file = tmp_path / "source" / "before" / "model.py"
        return [SimpleNamespace(before={file: _BEFORE.encode()}, after={file: AFTER[name].encode()})]

    monkeypatch.setattr("random_patches.propose", propose)
    result = outcome(Source(_BEFORE, frozenset()), tmp_path / "source")
    assert (result.kind == "patched") == (name == "patched"), result


# -- the sources themselves --------------------------------------------------------------------------------------------


def test_every_feature_is_frequent() -> None:
    counts: Counter[str] = Counter()
    for seed in range(DRAWS):
        counts.update(source(seed).features)
    assert [name for name in FEATURES if counts[name] < 0.03 * DRAWS] == []
    assert counts.keys() <= {*FEATURES, *RARE}


def test_a_draw_gives_the_same_source_each_time() -> None:
    for seed in range(50):
        assert source(seed) == source(seed)


def test_every_source_is_a_model_that_runs_and_most_have_a_chain(tmp_path: Path) -> None:
    patchable = []
    for seed in range(SOURCES):
        drawn = source(10_000 + seed)
        with visited(tmp_path / str(seed), drawn.files) as subject:
            _, plan = planned(subject)
            assert not (plan and "nothing to do" in drawn.features), drawn
            for training in (True, False):
                assert outputs(subject.model.train(training), subject), drawn
        patchable.append(bool(plan))
    assert sum(patchable) > 0.75 * len(patchable)


OLD = b"import torch\n\n\nx = f(1)  # one\ny = [\n    f(2),\n    3,\n]\nz = 4\n"


@pytest.mark.parametrize(
    "new",
    [OLD, OLD.replace(b"f(1)", b"g(f(1))"), OLD.replace(b"f(2),\n", b"f(2),\n    g(2),\n"), OLD + b"w = 5\n"],
)
def test_a_patch_that_only_adds_is_small(new: bytes) -> None:
    is_small(OLD, new)


@pytest.mark.parametrize(
    "new",
    [
        OLD.replace(b"# one", b"# 1"),
        OLD.replace(b"  # one", b" # one"),
        OLD.replace(b"    3,\n", b""),
        OLD.replace(b"z = 4", b"z = 4 + 1"),
        OLD.replace(b"\n", b"\r\n"),
        OLD.replace(b"y = [\n    f(2),\n    3,\n]", b"y = [f(2), 3]"),
    ],
)
def test_a_patch_that_formats_or_takes_away_is_not(new: bytes) -> None:
    with pytest.raises(AssertionError):
        is_small(OLD, new)
