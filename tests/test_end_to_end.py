"""The commands on real files, from the command line to the exit code: what each says, writes, and leaves alone.

After a wanted change of wording: UPDATE_GOLDEN=1 pytest tests/test_end_to_end.py, then read the diff.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from click.testing import CliRunner, Result
from transcripts import shows

from gradcheck_tool import schemas
from gradcheck_tool.cli import gradtool

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DEEP = "examples/deep_sigmoid_mlp.py"
COMMANDS = ("audit", "audit --probe", "probe", "fix --insert-bn")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small gain nothing by a second thread, and on a busy machine two wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh current folder with the examples and the small model in it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)
    shutil.copy(TESTS / "models" / "small_mlp.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, *more: str) -> Result:
    """gradtool with the words of `command`, and `more`, which may have spaces in them."""
    return CliRunner().invoke(gradtool, [*command.split(), *more])


def document(command: str, target: str) -> dict[str, Any]:
    """The JSON of a command, validated against the schema that ships with the package."""
    parsed: dict[str, Any] = json.loads(run(f"{command} --format json", target).stdout)
    jsonschema.Draft202012Validator(schemas.load(command.split()[0])).validate(parsed)
    return parsed


def files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its content, but for Python's own caches."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


# the deep sigmoid net, whose gradient vanishes


def test_audit_names_the_chain_with_its_place_and_the_predicted_decades() -> None:
    result = run("audit", DEEP)
    first, second = result.stdout.splitlines()[:2]
    assert result.exit_code == 1
    assert first.startswith(f"{DEEP}:18:20: GT001 error unnormalized-chain 12 blocks of Linear → sigmoid")
    assert "inp … body.10 (12 blocks)" in second
    row = next(line.split() for line in result.stdout.splitlines() if line.startswith("  12  "))
    assert -9.6 < float(row[-2]) < -9.1


def test_audit_locates_the_expression_that_constructs_the_first_layer() -> None:
    place = document("audit", DEEP)["findings"][0]["location"]
    line = (ROOT / DEEP).read_text(encoding="utf-8").splitlines()[place["line"] - 1]
    assert line[place["column"] - 1 : place["end_column"] - 1] == "nn.Linear(64, width)"


def test_the_prediction_agrees_with_the_measurement() -> None:
    chain = document("audit --probe", DEEP)["chains"][0]
    assert chain["predicted_decades"] == pytest.approx(chain["measured_decades"], abs=0.3)


def test_probe_finds_the_gradient_vanishing_and_exits_with_1() -> None:
    result = run("probe", DEEP)
    assert (result.exit_code, result.stdout.split(":")[0]) == (1, "vanishing")


def test_probe_says_the_change_of_the_gradient_once() -> None:
    assert run("probe", DEEP).stdout.count("from body.10 back to inp") == 1


def test_fix_shows_every_layers_norms_before_and_after() -> None:
    result = run("fix --insert-bn", DEEP)
    rows = dict(re.findall(r"^  (\S+)((?: +\d\.\d\de[+-]\d\d){4})$", result.stdout, re.MULTILINE))
    assert result.exit_code == 0
    assert list(rows) == ["inp", *(f"body.{index}" for index in range(11)), "out"]


def test_fix_improves_by_at_least_five_decades() -> None:
    fixed = document("fix --insert-bn", DEEP)
    before, after = (abs(fixed[when]["measured_decades"]) for when in ("before", "after"))
    assert before - after >= 5
    assert (fixed["before"]["verdict"], fixed["after"]["verdict"], fixed["improved"]) == ("vanishing", "healthy", True)


def test_fix_measures_before_and_after_over_the_same_layers() -> None:
    fixed = document("fix --insert-bn", DEEP)
    assert fixed["before"]["measured_over"] == fixed["after"]["measured_over"] == ["inp", "body.10"]


# the JSON of every command on every example

EXAMPLES = ["shallow_sigmoid_mlp", "deep_sigmoid_mlp", "plain_conv_net", "article_bn_net", "handwritten_batchnorm"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_json_validates_against_the_shipped_schema(command: str, name: str) -> None:
    assert document(command, f"examples/{name}.py")["target"]["file"] == f"examples/{name}.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_seed_gives_the_same_document(command: str) -> None:
    assert (
        run(f"{command} --format json --seed 3", DEEP).stdout == run(f"{command} --format json --seed 3", DEEP).stdout
    )


# what audit finds in the examples


@pytest.mark.parametrize(
    ("name", "code", "rules", "deepest"),
    [
        pytest.param("article_bn_net", 0, ["GT004"], 0, id="no more than a needless bias in a normalized net"),
        pytest.param("shallow_sigmoid_mlp", 0, [], 2, id="nothing in a shallow net"),
        pytest.param("deep_sigmoid_mlp", 1, ["GT001"], 12, id="one chain in a deep sigmoid net"),
        pytest.param("plain_conv_net", 1, ["GT001"], 16, id="one chain in a plain conv net"),
        pytest.param(
            "handwritten_batchnorm", 1, ["GT002", "GT002", "GT003"], 0, id="the faults of a hand-written norm"
        ),
    ],
)
def test_audit_finds(name: str, code: int, rules: list[str], deepest: int) -> None:
    result = run("audit --format json", f"examples/{name}.py")
    report = json.loads(result.stdout)
    assert [finding["rule"] for finding in report["findings"]] == rules
    assert max((chain["depth"] for chain in report["chains"]), default=0) == deepest
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        pytest.param("GT002", "self.running_mean.data =", id="the overwritten running mean"),
        pytest.param("GT002", "self.running_var.data =", id="the overwritten running variance"),
        pytest.param("GT003", "var + self.running_var", id="the variance in the place of epsilon"),
    ],
)
def test_audit_points_at_the_line_of(rule: str, words: str) -> None:
    findings = document("audit", "examples/handwritten_batchnorm.py")["findings"]
    source = (ROOT / "examples" / "handwritten_batchnorm.py").read_text(encoding="utf-8").splitlines()
    lines = [source[f["location"]["line"] - 1] for f in findings if f["rule"] == rule]
    assert [line for line in lines if words in line] != []


def test_nothing_to_fix_in_a_normalized_net_is_said_and_no_failure() -> None:
    result = run("fix --insert-bn", "examples/article_bn_net.py")
    assert (result.exit_code, result.stdout.partition(":")[0]) == (0, "Nothing to do")


# what is written, and what is not


@pytest.mark.parametrize("command", [*COMMANDS, "fix --insert-bn --diff", "fix --insert-bn --format json"])
def test_nothing_is_written_by(command: str, folder: Path) -> None:
    before = files(folder)
    assert run(command, DEEP).exit_code in (0, 1)
    assert files(folder) == before


def test_only_what_is_named_is_written(folder: Path) -> None:
    before = files(folder)
    run("fix --insert-bn -o fixed.py --output-file report.txt", DEEP)
    after = files(folder)
    assert set(after) - set(before) == {"fixed.py", "report.txt"}
    assert {name: after[name] for name in before} == before


def test_what_is_written_is_a_model_that_the_commands_take() -> None:
    run("fix --insert-bn -o fixed.py", DEEP)
    report = document("audit", "fixed.py")
    assert {finding["rule"] for finding in report["findings"]} == {"GT004"}  # the biases are still there
    assert run("probe", "fixed.py").exit_code == 0


def test_the_diff_that_is_shown_makes_the_file_that_is_written(folder: Path) -> None:
    diff = run("fix --insert-bn --diff -o fixed.py", DEEP).stdout
    subprocess.run(["patch", "-p0", "-s"], input=diff, text=True, check=True, cwd=folder)
    assert (folder / "fixed.py").read_bytes() == (folder / DEEP).read_bytes()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param("fix --insert-bn --diff", 1, id="a diff that is not written"),
        pytest.param("fix --insert-bn --diff -o fixed.py", 0, id="a diff that is written"),
        pytest.param("fix --insert-bn --min-depth 13", 0, id="no chain that is deep enough"),
        pytest.param("audit --fail-on never", 0, id="findings that shall not fail"),
        pytest.param("audit --ignore GT001", 0, id="findings that are ignored"),
        pytest.param("audit --select GT002", 0, id="findings that are not selected"),
        pytest.param("probe --fail-on never", 0, id="a verdict that shall not fail"),
    ],
)
def test_exit_code_for(command: str, code: int) -> None:
    assert run(command, DEEP).exit_code == code


@pytest.mark.filterwarnings("ignore:careful")
def test_a_model_that_prints_and_warns_while_loading_does_not_spoil_the_json(folder: Path) -> None:
    noise = "import warnings\nprint('loading')\nwarnings.warn('careful')\n"
    quiet = (folder / "small_mlp.py").read_text(encoding="utf-8")
    noisy = quiet.replace("from torch import", f"{noise}from torch import").replace("return ", "print(x); return ")
    (folder / "noisy.py").write_text(noisy, encoding="utf-8")
    assert document("audit --probe", "noisy.py")["model"]["class"] == "SmallMLP"


# a fix that does not help


def test_a_fix_that_makes_it_worse_says_so_and_exits_with_1(folder: Path) -> None:
    layers = "[m for _ in range(40) for m in (nn.Linear(64, 64), nn.ReLU())]"
    (folder / "plain.py").write_text(f"""
import torch
from torch import nn

model = nn.Sequential(*{layers})
for module in model[::2]:
    nn.init.kaiming_normal_(module.weight)
    nn.init.zeros_(module.bias)
example_inputs = torch.randn(32, 64)
""")
    result = run("fix --insert-bn", "plain.py")
    assert result.exit_code == 1
    assert "Not improved" in result.stdout


# the whole text

TRANSCRIPTS = {
    "audit": "audit",
    "audit-probe": "audit --probe",
    "audit-verbose": "audit -v --min-depth 2",
    "audit-quiet": "audit -q",
    "probe": "probe",
    "probe-quiet": "probe -q",
    "fix": "fix --insert-bn",
    "fix-quiet": "fix --insert-bn -q",
    "fix-diff": "fix --insert-bn --diff",
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_text_is_as_in_the_golden_file(name: str) -> None:
    text = run(TRANSCRIPTS[name], "small_mlp.py").stdout
    file = TESTS / "golden" / "cli" / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert shows(file.read_text(encoding="utf-8"), text), text


def test_every_golden_file_belongs_to_a_command() -> None:
    assert {file.stem for file in (TESTS / "golden" / "cli").iterdir()} == set(TRANSCRIPTS)
