"""The text reports against golden files, and the JSON against the schemas that ship with the package.

After a wanted change of wording: UPDATE_GOLDEN=1 pytest tests/test_report.py, then read the diff.
"""

from __future__ import annotations

import copy
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from torch import fx, nn

from gradcheck_tool import schemas
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.report import NORMAL, QUIET, VERBOSE, formats, render
from gradcheck_tool.report.text.words import fold
from gradcheck_tool.results import (
    AuditReport,
    CaptureFacts,
    Chain,
    Finding,
    Fix,
    FixResult,
    GradientProfile,
    InputSpec,
    Insertion,
    LayerGradient,
    Location,
    ModelFacts,
    ProbeOutput,
    ProbeReport,
    Skip,
    Specialization,
    Target,
    Unanalyzed,
)

GOLDEN = Path(__file__).parent / "golden"
INF, NAN = float("inf"), float("nan")

TARGET = Target("deep sigmoid.py:Net", "deep sigmoid.py", "Net")
INPUTS = (InputSpec("x", (32, 784), "float32", "inferred", "read off Linear(784, 512) at deep sigmoid.py:8"),)
HERE = Location("deep sigmoid.py", 14, 23, 14, 46)


def chain(depth: int, predicted: float | None = -6.5, measured: float | None = None, **changes: Any) -> Chain:
    layers = tuple(f"fc{index}" for index in range(1, depth + 1))
    return replace(Chain(layers, ("Sigmoid",) * depth, depth, predicted, measured), **changes)


def finding(of: Chain, severity: Any = "error", **changes: Any) -> Finding:
    message = f"{of.depth} blocks in a row without normalization"
    fix = Fix("insert-bn", "unsafe")
    return replace(Finding("GT001", "unnormalized-chain", severity, message, of.layers, HERE, fix), **changes)


def audit(*chains: Chain, findings: tuple[Finding, ...] = (), **changes: Any) -> AuditReport:
    model = ModelFacts("Net", 5_132_298, 21)
    capture = CaptureFacts("meta", 41, ())
    return replace(AuditReport(TARGET, INPUTS, model, capture, chains, findings, ()), **changes)


def layer(name: str, size: float = 1.0, **changes: Any) -> LayerGradient:
    return replace(LayerGradient(name, 0.02 * size, 0.3 * size, 13.1, 0.497, 0.0213, 0.0, 0.125), **changes)


def profile(count: int = 4, per_layer: float = 1.0, verdict: Any = "healthy", **changes: Any) -> GradientProfile:
    layers = tuple(layer(f"fc{index}", per_layer ** (count - index)) for index in range(1, count + 1))
    over = ("fc1", f"fc{count}")
    output = ProbeOutput("tensor", True)
    return replace(GradientProfile(verdict, (), "random-projection", 32, 1, 0, layers, 0.0, over, output), **changes)


HEALTHY = profile(measured_decades=0.003)
VANISHING = profile(
    20,
    0.46,
    "vanishing",
    reasons=("from fc20 back to fc1 the gradient norm shrinks 2,552,701-fold",),
    measured_decades=-6.407,
)
EXPLODING = profile(4, 9.0, "exploding", reasons=("the gradient norm grows over 70-fold",), measured_decades=2.86)
NON_FINITE = profile(
    verdict="non-finite",
    reasons=("the output of fc2 is not finite",),
    layers=(
        layer("fc1", INF, weight_norm=NAN, activation_mean=-INF, activation_std=NAN, dead_fraction=NAN),
        layer("conv.weight@2", 1e-300, activation_mean=None, activation_std=None, dead_fraction=None),
        LayerGradient("", None, None, None, None, None, None, None),
    ),
    measured_decades=INF,
    measured_over=None,
    loss="user",
    batch_size=None,
    batches=2,
    output=ProbeOutput("dict", False),
)
MANY_LAYERS = profile(30)

DEEP, SHORT = chain(20), chain(2, -0.8, layers=("tail.0", "tail.2"))
UNKNOWN = chain(5, None, None, note="the weights have a mean, for which the theory does not hold")
LONG_NAMES = chain(4, 3.02, 2.9, layers=tuple(f"backbone.stages.3.blocks.{i}.mlp.projection_in" for i in range(4)))

PLAN = tuple(Insertion(f"fc{index}", "BatchNorm1d", 512, HERE) for index in range(1, 21))
DIFF = """\
--- deep sigmoid.py
+++ deep sigmoid.py
@@ -14,1 +14,2 @@
 class Net(nn.Module):
+    # normalized
"""
GRAPH = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


def fixed(before: GradientProfile | None, after: GradientProfile | None, improved: bool | None, **changes: Any) -> Any:
    result = FixResult(TARGET, INPUTS, PLAN, (), before, after, improved, {}, DIFF, None, GRAPH)
    return replace(result, **changes)


IMPROVED = fixed(VANISHING, profile(20, 1.02, measured_decades=-0.31), True)

RESULTS: dict[str, AuditReport | ProbeReport | GradientProfile | FixResult] = {
    "audit-finding": audit(DEEP, SHORT, findings=(finding(DEEP),)),
    "audit-nothing-found": audit(SHORT),
    "audit-no-blocks-no-inputs": audit(inputs=()),
    "audit-no-location-no-prediction": audit(
        UNKNOWN, findings=(finding(UNKNOWN, "warning", location=None, message="two\nlines"),)
    ),
    "audit-long-names-and-probe": audit(
        LONG_NAMES, DEEP, findings=(finding(LONG_NAMES), finding(DEEP, "note", location=None)), probe=EXPLODING
    ),
    "audit-not-understood": audit(
        SHORT,
        not_analyzed=tuple(Unanalyzed(f"fft_{index}", "an FFT mixes all features") for index in range(9)),
        capture=CaptureFacts(
            "cpu",
            41,
            (Specialization("x.sum() > 0 was read", "model.py", 31), Specialization("a random draw", None, None)),
        ),
    ),
    "audit-in-python": audit(DEEP, findings=(finding(DEEP),), target=Target("Net", None, "Net")),
    "probe-healthy": ProbeReport(TARGET, INPUTS, HEALTHY),
    "probe-vanishing": ProbeReport(TARGET, INPUTS, VANISHING),
    "probe-non-finite": ProbeReport(TARGET, INPUTS, NON_FINITE),
    "probe-many-layers": ProbeReport(
        TARGET, tuple(InputSpec(f"x{index}", (), "int64", "option") for index in range(9)), MANY_LAYERS
    ),
    "profile-without-layers": replace(HEALTHY, layers=(), measured_decades=None, measured_over=None),
    "fix-improved": IMPROVED,
    "fix-improved-not-healthy": replace(IMPROVED, after=replace(VANISHING, measured_decades=-3.1), diff=""),
    "fix-not-improved": fixed(VANISHING, replace(EXPLODING, layers=profile(20, 1.4).layers), False, written="fixed.py"),
    "fix-written-in-place": replace(
        IMPROVED,
        plan=PLAN[:2],
        without_bias=("fc1", "fc2"),
        written="deep sigmoid.py, blocks.py",
        renamed={"tail.2.weight": "tail.3.weight"},
    ),
    "fix-refused": replace(IMPROVED, plan=PLAN[:2], patch_refused="one place makes layers with and without norm"),
    "fix-was-healthy": fixed(HEALTHY, HEALTHY, False, plan=PLAN[:2]),
    "fix-nothing-to-do": fixed(HEALTHY, None, None, plan=(), diff=""),
    "fix-all-skipped": fixed(
        None, None, None, plan=(), diff="", skipped=tuple(Skip(f"fc{i}", "it runs on a sequence") for i in range(1, 6))
    ),
    "fix-not-measured": fixed(
        None,
        None,
        None,
        plan=PLAN[:1],
        skipped=(Skip("head", "it is the head"),),
        renamed={"tail.2.weight": "tail.3.weight", "tail.2.bias": "tail.3.bias"},
    ),
    "fix-several-norms": replace(
        IMPROVED,
        plan=(
            *PLAN[:2],
            Insertion("mix", "LayerNorm", 64, None, None, "LayerNorm: what comes out is a sequence"),
            Insertion("top", "LayerNorm", 64, None, None, "LayerNorm: what comes out is a sequence"),
            Insertion("conv", "GroupNorm", 64, HERE, 4, "GroupNorm: the batch has 2 samples"),
            Insertion("last", "InstanceNorm2d", 3, HERE),
        ),
        diff="",
    ),
    "fix-function-kept": replace(IMPROVED, plan=PLAN[:2], function_change=2.1e-7),
    "fix-weights-saved": replace(
        IMPROVED, plan=PLAN[:2], function_change=0.0031, weights="kept.pt", written="deep sigmoid.py"
    ),
    "fix-in-python": replace(IMPROVED, target=Target("Net", None, "Net"), diff=""),
}
VERBOSITIES = {"normal": NORMAL, "quiet": QUIET, "verbose": VERBOSE}
QUIET_OR_VERBOSE = [
    ("audit-finding", "quiet"),
    ("audit-nothing-found", "quiet"),
    ("audit-finding", "verbose"),
    ("audit-not-understood", "verbose"),
    ("probe-vanishing", "quiet"),
    ("probe-many-layers", "verbose"),
    ("fix-improved", "quiet"),
    ("fix-all-skipped", "quiet"),
    ("fix-improved", "verbose"),
    ("fix-refused", "quiet"),
]
CASES = [(name, "normal") for name in RESULTS] + QUIET_OR_VERBOSE


@pytest.mark.parametrize(("name", "verbosity"), CASES, ids=[f"{name}, {verbosity}" for name, verbosity in CASES])
def test_text_is_as_in_the_golden_file(name: str, verbosity: str) -> None:
    text = render(RESULTS[name], "text", verbosity=VERBOSITIES[verbosity])
    file = GOLDEN / f"{name}.{verbosity}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.name for file in GOLDEN.glob("*.txt")} == {f"{name}.{verbosity}.txt" for name, verbosity in CASES}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("verbosity", VERBOSITIES)
def test_text_has_no_trailing_spaces_and_ends_with_one_newline(name: str, verbosity: str) -> None:
    text = render(RESULTS[name], "text", verbosity=VERBOSITIES[verbosity])
    assert text == "" or re.fullmatch(r"(?:(?:.*\S)?\n)*.*\S\n", text)


@pytest.mark.parametrize("name", RESULTS)
def test_text_stays_within_a_hundred_columns_but_for_the_users_own_words(name: str) -> None:
    quoted = re.compile(r"GT001| … .* \(\d+ (?:block|layer)s\)|Improved|Not improved|old checkpoints: rename")
    lines = render(RESULTS[name], "text").splitlines()
    assert [line for line in lines if len(line) > 100 and not quoted.search(line)] == []


@pytest.mark.parametrize("name", RESULTS)
def test_colour_changes_nothing_but_escape_codes(name: str) -> None:
    colored = render(RESULTS[name], "text", color=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == render(RESULTS[name], "text")


def test_colour_is_off_unless_asked_for() -> None:
    assert "\x1b[" not in render(RESULTS["fix-improved"], "text")
    assert "\x1b[32m+    # normalized\x1b[0m" in render(RESULTS["fix-improved"], "text", color=True)


def test_quiet_audit_is_one_line_a_finding() -> None:
    report = RESULTS["audit-long-names-and-probe"]
    assert len(render(report, "text", verbosity=QUIET).splitlines()) == 2


def test_a_result_prints_as_its_text_report() -> None:
    assert str(RESULTS["probe-healthy"]) == render(RESULTS["probe-healthy"], "text")


@pytest.mark.parametrize(
    ("decades", "words"),
    [
        pytest.param(-6.5, "shrinks 3,200,000-fold", id="a vanishing gradient shrinks"),
        pytest.param(3.0, "grows 1,000-fold", id="an exploding gradient grows"),
        pytest.param(0.3, "grows 2-fold", id="small factors have two figures"),
        pytest.param(-0.999, "shrinks 10-fold", id="rounding up carries over"),
        pytest.param(0.01, "keeps its size", id="two percent is no change"),
        pytest.param(-17.3, "shrinks 2e17-fold", id="large factors are powers of ten"),
        pytest.param(-400.0, "shrinks 1e400-fold", id="beyond float64's range"),
        pytest.param(INF, "grows beyond all numbers", id="infinite growth"),
        pytest.param(-INF, "shrinks to nothing", id="infinite shrinking"),
        pytest.param(NAN, "is not a number", id="not a number"),
    ],
)
def test_decades_in_words(decades: float, words: str) -> None:
    assert fold(decades) == words


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(GradtoolError, match="text, json"):
        render(HEALTHY, "yaml")


def test_text_stands_first_among_the_formats() -> None:
    assert formats()[:2] == ("text", "json")


# JSON


def document(name: str) -> Any:
    return json.loads(render(RESULTS[name], "json"))


DOCUMENTS = [name for name in RESULTS if not name.startswith("profile")]


@pytest.mark.parametrize("name", schemas.NAMES)
def test_schema_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load(name))


def test_schemas_agree_on_what_they_share() -> None:
    merged: dict[str, Any] = {}
    for name in schemas.NAMES:
        for key, definition in schemas.load(name)["$defs"].items():
            assert merged.setdefault(key, definition) == definition


def test_an_unknown_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="audit, probe, fix"):
        schemas.load("../results")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_validates_against_the_shipped_schema(name: str) -> None:
    jsonschema.Draft202012Validator(schemas.load(name.split("-")[0])).validate(document(name))


def test_json_writes_figures_that_are_not_finite_as_strings() -> None:
    first = document("probe-non-finite")["probe"]["layers"][0]
    assert (first["grad_norm"], first["weight_norm"], first["activation_mean"]) == ("inf", "nan", "-inf")


def paths(schema: dict[str, Any], node: dict[str, Any], value: Any, path: tuple[Any, ...] = ()) -> Any:
    """The path of every key that `schema` requires and that `value` has."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    if "oneOf" in node:
        node = node["oneOf"][0]
        yield from paths(schema, node, value, path) if value is not None else ()
        return
    for key in node.get("required", ()):
        yield (*path, key)
        yield from paths(schema, node["properties"][key], value[key], (*path, key))
    if "items" in node and value:
        yield from paths(schema, node["items"], value[0], (*path, 0))


FULL = {"audit": "audit-long-names-and-probe", "probe": "probe-vanishing", "fix": "fix-improved"}
REQUIRED = [
    (name, path)
    for name, full in FULL.items()
    for path in paths(schemas.load(name), schemas.load(name), document(full))
]


def test_the_schemas_require_every_documented_key() -> None:
    keys = {path[-1] for _, path in REQUIRED}
    documented = """schema_version tool name version torch target spec file object inputs shape dtype origin model class
        parameters weight_layers capture device nodes specialized chains layers activations depth predicted_decades
        measured_decades findings rule severity message location line column end_line end_column fix remedy
        applicability not_analyzed probe verdict reasons loss batch_size batches seed grad_norm output_grad_norm
        weight_norm activation_mean activation_std dead_fraction saturated_fraction output kind finite plan after norm
        num_features skipped before improved renamed diff written"""
    assert set(documented.split()) <= keys


@pytest.mark.parametrize(("name", "path"), REQUIRED, ids=[f"{n} without {'.'.join(map(str, p))}" for n, p in REQUIRED])
def test_schema_refuses_a_document_that_lacks_a_key(name: str, path: tuple[Any, ...]) -> None:
    broken = copy.deepcopy(document(FULL[name]))
    parent = broken
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    assert not jsonschema.Draft202012Validator(schemas.load(name)).is_valid(broken)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        pytest.param("audit", ("schema_version",), 2, id="another schema version"),
        pytest.param("audit", ("findings", 0, "severity"), "fatal", id="an unknown severity"),
        pytest.param("audit", ("findings", 0, "location", "line"), 0, id="a line counted from 0"),
        pytest.param("audit", ("inputs", 0, "origin"), "guessed", id="an unknown origin"),
        pytest.param("audit", ("chains", 0, "predicted_decades"), "Infinity", id="infinity in another spelling"),
        pytest.param("audit", ("chains", 0, "depth"), 2.5, id="half a block"),
        pytest.param("probe", ("probe", "verdict"), "fine", id="an unknown verdict"),
        pytest.param("probe", ("probe", "layers", 0, "grad_norm"), -1.0, id="a negative norm"),
        pytest.param("probe", ("probe", "layers", 0, "dead_fraction"), 1.5, id="a share above 1"),
        pytest.param("probe", ("probe",), None, id="a probe without a profile"),
        pytest.param("fix", ("improved",), "yes", id="improved as a word"),
        pytest.param("fix", ("renamed",), {"a": 1}, id="a key renamed to a number"),
    ],
)
def test_schema_refuses(name: str, path: tuple[Any, ...], value: Any) -> None:
    broken = copy.deepcopy(document(FULL[name]))
    parent = broken
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert not jsonschema.Draft202012Validator(schemas.load(name)).is_valid(broken)


def test_schema_lets_later_keys_through() -> None:
    later = document("probe-healthy") | {"later": 1}
    jsonschema.Draft202012Validator(schemas.load("probe")).validate(later)
