"""`gradtool fix` on the user's own files: what it shows, what it writes and where, and what it leaves alone."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from gradcheck_tool import schemas
from gradcheck_tool.cli import gradtool
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.fixing.writing import placed
from gradcheck_tool.remedy.patch.expectation import Checked
from gradcheck_tool.remedy.patch.proposal import Refused

ONE = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 8)  # in
        self.fc2 = nn.Linear(8, 8)
        self.fc3 = nn.Linear(8, 8)
        self.fc4 = nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.sigmoid(self.fc1(x))
        x = torch.sigmoid(self.fc2(x))
        x = torch.sigmoid(self.fc3(x))
        x = torch.sigmoid(self.fc4(x))
        return self.out(x)
"""
FIXED = ONE
for _at in range(1, 5):
    _made = f"        self.fc{_at} = nn.Linear(8, 8)" + ("  # in" if _at == 1 else "") + "\n"
    FIXED = FIXED.replace(_made, f"{_made}        self.bn{_at} = nn.BatchNorm1d(8)\n")
    FIXED = FIXED.replace(f"(self.fc{_at}(x))", f"(self.bn{_at}(self.fc{_at}(x)))")

TWO = {
    "nets/net.py": """\
import torch
from torch import nn
from nets.parts.blocks import Block

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.body = nn.Sequential(Block(), Block(), Block())
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.body(torch.sigmoid(self.first(x))))
""",
    "nets/parts/blocks.py": """\
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return torch.sigmoid(self.fc(x))
""",
    "nets/__init__.py": "",
    "nets/parts/__init__.py": "",
}
SEQUENTIAL = """\
from torch import nn

model = nn.Sequential(
    nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8),
    nn.Sigmoid(), nn.Linear(8, 2),
)
"""
WORSE = """\
import torch
from torch import nn

model = nn.Sequential(*[part for _ in range(40) for part in (nn.Linear(64, 64), nn.ReLU())], nn.Linear(64, 64))
for module in model[::2]:
    nn.init.kaiming_normal_(module.weight)
    nn.init.zeros_(module.bias)
example_inputs = torch.randn(32, 64)
"""


@pytest.fixture(autouse=True)
def folder(working_folder: Path) -> Path:
    """A current folder with the projects above."""
    for name, text in (("model.py", ONE), ("sequential.py", SEQUENTIAL), ("worse.py", WORSE), *TWO.items()):
        (working_folder / name).parent.mkdir(exist_ok=True, parents=True)
        (working_folder / name).write_bytes(text.encode())
    return working_folder


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check in a fresh process, which has tests of its own and takes seconds."""
    monkeypatch.setattr("gradcheck_tool.fixing.change.verify", lambda *_: Checked())


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Mapping[str, str]:
        raise Refused("one place makes layers of two kinds")

    monkeypatch.setattr("gradcheck_tool.fixing.change.verify", refuse)


def fix(*arguments: str) -> Result:
    return CliRunner().invoke(gradtool, ["fix", "--insert-bn", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(fix("--format", "json", *arguments).stdout)
    jsonschema.Draft202012Validator(schemas.load("fix")).validate(parsed)
    return parsed


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


# with the check in a fresh process


def test_in_place_the_users_file_is_changed_and_a_second_run_finds_nothing_to_do(folder: Path) -> None:
    before = files(folder)
    first = fix("-i", "model.py")
    assert (first.exit_code, "written to model.py\n" in first.stdout) == (0, True)
    assert files(folder) == before | {"model.py": FIXED.encode()}
    second = fix("-i", "model.py")
    assert (second.exit_code, second.stdout.partition(":")[0]) == (0, "Nothing to do")
    assert files(folder) == before | {"model.py": FIXED.encode()}


def test_keys_that_shift_are_listed_and_an_old_checkpoint_is_explained() -> None:
    renamed = document("sequential.py")["renamed"]
    assert renamed == {f"{2 * i}.{leaf}": f"{3 * i}.{leaf}" for i in range(1, 5) for leaf in ("weight", "bias")}
    expected = "old checkpoints: rename 8 keys first (2.weight is now 3.weight; all under `renamed` in the JSON), then"
    assert expected in fix("sequential.py").stdout


def test_biases_that_the_norms_make_void_are_dropped_where_that_is_asked_for(folder: Path) -> None:
    result = document("-i", "--drop-bias", "model.py")
    assert result["without_bias"] == ["fc1", "fc2", "fc3", "fc4"]
    assert (result["written"], result["renamed"]) == ("model.py", {})
    assert (folder / "model.py").read_text() == FIXED.replace("nn.Linear(8, 8)", "nn.Linear(8, 8, bias=False)")


# without it


@pytest.mark.usefixtures("unchecked")
def test_by_default_the_diff_of_the_users_source_is_shown_and_nothing_is_written(folder: Path) -> None:
    before = files(folder)
    result = fix("model.py")
    assert result.exit_code == 0
    assert "\n--- model.py\n+++ model.py\n@@ " in result.stdout
    assert "nothing is written yet: add -i to change your source, or -o PATH to write it elsewhere\n" in result.stdout
    assert files(folder) == before


@pytest.mark.usefixtures("unchecked")
def test_the_diff_alone_is_what_patch_takes(folder: Path) -> None:
    result = fix("--diff", "nets.net:Net")
    assert result.exit_code == 1
    subprocess.run(["patch", "-p0", "-s"], input=result.stdout, text=True, check=True, cwd=folder)
    patched = {name: (folder / name).read_text() for name in TWO}
    assert [text.count("BatchNorm1d") for text in patched.values()] == [1, 1, 0, 0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("output", ["fixed.py", "new name.py"])
def test_a_single_file_goes_where_it_is_told(output: str, folder: Path) -> None:
    before = files(folder)
    assert document("-o", output, "model.py")["written"] == output
    assert files(folder) == before | {output: FIXED.encode()}


@pytest.mark.usefixtures("unchecked")
def test_the_users_own_file_may_be_named_too(folder: Path) -> None:
    assert document("-o", "model.py", "model.py")["written"] == "model.py"
    assert (folder / "model.py").read_text() == FIXED


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("exists", [True, False], ids=["that is there", "that is made"])
def test_several_files_go_into_a_folder(exists: bool, folder: Path) -> None:
    if exists:
        (folder / "out").mkdir()
    before = files(folder)
    result = document("-o", "out", "nets.net:Net")
    after = files(folder)
    assert result["written"] == "out"
    assert set(after) - set(before) == {"out/nets/net.py", "out/nets/parts/blocks.py"}
    assert {name: after[name] for name in before} == before


@pytest.mark.usefixtures("unchecked")
def test_several_files_in_one_are_refused_with_the_advice_to_name_a_folder(folder: Path) -> None:
    before = files(folder)
    result = fix("-o", "fixed.py", "nets.net:Net")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "2 of your files change, and fixed.py is one file; name a folder for them: -o fixed\n" in result.stderr
    assert files(folder) == before


@pytest.mark.usefixtures("unchecked")
def test_several_files_are_changed_in_place(folder: Path) -> None:
    result = document("-i", "nets.net:Net")
    assert result["written"] == "nets/net.py, nets/parts/blocks.py"
    assert [(folder / name).read_text().count("BatchNorm1d") for name in TWO] == [1, 1, 0, 0]


def test_a_file_that_is_edited_while_it_is_fixed_keeps_the_edit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(*_: Any) -> Checked:
        (folder / "model.py").write_text(ONE + "# edited\n")
        return Checked()

    monkeypatch.setattr("gradcheck_tool.fixing.change.verify", edit)
    result = fix("-i", "model.py")
    assert result.exit_code == 2
    assert result.stderr == (
        "gradtool: error: model.py was edited meanwhile: nothing is written; run gradtool fix again\n"
    )
    assert (folder / "model.py").read_text() == ONE + "# edited\n"


@pytest.mark.usefixtures("unchecked")
def test_a_fix_that_does_not_improve_is_written_all_the_same_and_exits_with_1(folder: Path) -> None:
    result = fix("-i", "worse.py")
    assert result.exit_code == 1
    assert "written to worse.py, although it did not improve" in result.stdout
    assert "nn.BatchNorm1d" in (folder / "worse.py").read_text()


@pytest.mark.usefixtures("unchecked")
def test_mode_and_line_ends_are_kept_in_place(folder: Path) -> None:
    (folder / "model.py").write_bytes(ONE.replace("\n", "\r\n").encode())
    (folder / "model.py").chmod(0o755)
    assert fix("-i", "model.py").exit_code == 0
    assert (folder / "model.py").read_bytes() == FIXED.replace("\n", "\r\n").encode()
    assert (folder / "model.py").stat().st_mode & 0o777 == 0o755


# where the user's source is not changed


@pytest.mark.usefixtures("refusing")
def test_a_refusal_says_why_and_offers_a_module_that_inserts_the_norms(folder: Path) -> None:
    before = files(folder)
    result = fix("model.py")
    assert result.exit_code == 0
    assert "\nyour own source is not changed: one place makes layers of two kinds\n" in result.stdout
    assert "\n--- /dev/null\n+++ model_fixed.py\n" in result.stdout
    assert "-o FILE writes the module above" in result.stdout
    assert files(folder) == before


@pytest.mark.usefixtures("refusing")
def test_in_place_a_refusal_writes_nothing_and_exits_with_1(folder: Path) -> None:
    before = files(folder)
    result = fix("-i", "-q", "model.py")
    assert result.exit_code == 1
    assert result.stdout.endswith("your own source is not changed: one place makes layers of two kinds\n")
    assert files(folder) == before


@pytest.mark.usefixtures("refusing")
def test_elsewhere_a_refusal_writes_the_module(folder: Path) -> None:
    result = document("-o", "fixed.py", "model.py")
    assert (result["written"], result["patch_refused"]) == ("fixed.py", "one place makes layers of two kinds")
    assert "build_fixed(" in (folder / "fixed.py").read_text()


@pytest.mark.usefixtures("refusing")
def test_with_the_diff_alone_the_refusal_goes_to_stderr() -> None:
    result = fix("--diff", "model.py")
    assert result.stdout.startswith("--- /dev/null\n+++ model_fixed.py\n")
    assert result.stderr.endswith("your own source is not changed: one place makes layers of two kinds\n")


def test_the_first_reason_is_given_where_no_proposal_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter(["the best one failed", "the next one failed", "the last one failed"])

    def refuse(*_: Any) -> Mapping[str, str]:
        raise Refused(next(reasons))

    monkeypatch.setattr("gradcheck_tool.fixing.change.verify", refuse)
    assert document("model.py")["patch_refused"] == "the best one failed"


# options


def test_in_place_and_an_output_are_one_too_many() -> None:
    result = fix("-i", "-o", "fixed.py", "model.py")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "both --in-place and --output are given; give one of the two" in result.stderr


# places


def test_files_keep_their_places_below_the_folder_that_they_are_imported_from(tmp_path: Path) -> None:
    for name in ("pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/a.py", "scripts/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    a, b, c = tmp_path / "pkg/sub/a.py", tmp_path / "scripts/b.py", tmp_path / "scripts/c.py"
    out = Path("out")
    assert placed([a], out) == {a: out}
    assert placed([b, c], out) == {b: out / "b.py", c: out / "c.py"}
    assert placed([a, b], out) == {a: out / "pkg/sub/a.py", b: out / "scripts/b.py"}
    out = tmp_path / "out"
    out.mkdir()
    assert placed([a], out) == {a: out / "pkg/sub/a.py"}


def test_a_file_that_is_there_is_no_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(GradtoolError, match="is one file"):
        placed([tmp_path / "a.py", tmp_path / "b.py"], tmp_path / "out")


# other norms than batch norm


@pytest.mark.parametrize(
    ("kind", "name", "norm"),
    [
        ("batch", "bn", "BatchNorm1d(8)"),
        ("layer", "ln", "LayerNorm(8)"),
        ("group", "gn", "GroupNorm(1, 8)"),
        ("rms", "norm", "RMSNorm(8)"),
        ("auto", "bn", "BatchNorm1d(8)"),
    ],
)
def test_each_norm_is_written_and_checked_and_a_second_run_finds_nothing_to_do(
    kind: str, name: str, norm: str, folder: Path
) -> None:
    def run() -> Result:
        return CliRunner().invoke(gradtool, ["fix", "--norm", kind, "-i", "--format", "json", "model.py"])

    document = json.loads(run().stdout)
    jsonschema.Draft202012Validator(schemas.load("fix")).validate(document)
    assert (document["patch_refused"], document["written"]) == (None, "model.py")
    fixed = (folder / "model.py").read_text()
    assert fixed == re.sub(r"\bbn(\d)", rf"{name}\1", FIXED).replace("BatchNorm1d(8)", norm)
    again = json.loads(run().stdout)
    assert (again["plan"], again["skipped"], again["written"]) == ([], [], None)


@pytest.mark.usefixtures("refusing")
def test_the_module_that_is_written_instead_has_every_kind(folder: Path) -> None:
    arguments = ["fix", "--norm", "group", "-o", "fixed.py", "model.py"]
    assert CliRunner().invoke(gradtool, arguments).exit_code == 0
    assert '    ("fc1", "GroupNorm", 8, 1),\n' in (folder / "fixed.py").read_text()
    assert CliRunner().invoke(gradtool, ["audit", "--fail-on", "note", "--select", "GT001", "fixed.py"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "fix needs to know the remedy; add --auto, --norm auto, or --insert-bn for batch norm"),
        (("--insert-bn", "--norm", "layer"), "--insert-bn is --norm batch, and --norm layer is given too"),
        (("--norm", "bach"), "Invalid value for '--norm': 'bach' is not one of 'auto', 'batch', 'layer'"),
    ],
)
def test_the_remedy_has_to_be_one(arguments: tuple[str, ...], line: str) -> None:
    result = CliRunner().invoke(gradtool, ["fix", *arguments, "model.py"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr


@pytest.mark.usefixtures("unchecked")
def test_insert_bn_and_norm_batch_are_the_same() -> None:
    first, second = (
        CliRunner().invoke(gradtool, ["fix", *given, "model.py"]) for given in (["--insert-bn"], ["--norm", "batch"])
    )
    both = CliRunner().invoke(gradtool, ["fix", "--insert-bn", "--norm", "batch", "model.py"])
    assert first.stdout == second.stdout == both.stdout
