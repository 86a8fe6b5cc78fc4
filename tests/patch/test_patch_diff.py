"""The diff of a proposal: `patch` and `git apply` make of the old files the new ones, to the byte."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from gradcheck_tool.remedy.patch.proposal import Proposal, Refused, diff

OLD = "import torch\n\nx = 1\ny = 2\n"
NEW = "import torch\n\nx = 1\nz = 3\ny = 2\n"


def lines(count: int, **changed: str) -> str:
    return "".join(changed.get(f"line{index}", f"line {index}\n") for index in range(count))


Sides = Mapping[str, tuple[bytes, bytes]]
CASES: dict[str, Sides] = {
    "one file": {"model.py": (OLD.encode(), NEW.encode())},
    "a file in a folder": {"nets/model.py": (OLD.encode(), NEW.encode())},
    "several files": {"model.py": (OLD.encode(), NEW.encode()), "nets/blocks.py": (NEW.encode(), OLD.encode())},
    "a file that stays as it is among others": {
        "model.py": (OLD.encode(), NEW.encode()),
        "same.py": (OLD.encode(), OLD.encode()),
    },
    "changes that lie far apart": {
        "model.py": (lines(40).encode(), lines(40, line2="two\n", line35="thirty\nfive\n").encode())
    },
    "a name with a space": {"my model.py": (OLD.encode(), NEW.encode())},
    "a name in another alphabet": {"модель.py": (OLD.encode(), NEW.encode())},
    "no newline at the end, before": {"model.py": (OLD.rstrip("\n").encode(), NEW.encode())},
    "no newline at the end, after": {"model.py": (OLD.encode(), NEW.rstrip("\n").encode())},
    "no newline at the end, either way": {"model.py": (OLD.rstrip("\n").encode(), NEW.rstrip("\n").encode())},
    "no newline at the end of a last line that changes": {"model.py": (b"x = 1", b"x = 2")},
    "no newline at the end of a line far away": {
        "model.py": (lines(20).rstrip("\n").encode(), lines(20, line2="two\n").rstrip("\n").encode())
    },
    "lines that end in carriage returns": {
        "model.py": (OLD.replace("\n", "\r\n").encode(), NEW.replace("\n", "\r\n").encode())
    },
    "ends of lines of both kinds": {"model.py": (b"a = 1\r\nb = 2\nc = 3\r\n", b"a = 1\r\nb = 4\nc = 3\r\n")},
    "a byte order mark": {"model.py": (b"\xef\xbb\xbf" + OLD.encode(), b"\xef\xbb\xbf" + NEW.encode())},
    "form feeds and other separators within a line": {
        "model.py": ("a = '\x0c\x1c\u2028'\nb = 1\n".encode(), "a = '\x0c\x1c\u2028'\nb = 2\n".encode())
    },
    "an empty file that gets a line": {"model.py": (b"", b"x = 1\n")},
    "text of all kinds": {"model.py": ("# ünï → 模型\nx = 1\n".encode(), "# ünï → 模型\nx = 2\n".encode())},
}


def proposal(sides: Sides, folder: Path) -> Proposal:
    return Proposal(
        {folder / name: old for name, (old, _) in sides.items()},
        {folder / name: new for name, (_, new) in sides.items()},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("tool", ["patch", "git apply"])
@pytest.mark.parametrize("name", CASES)
def test_applied_the_diff_gives_the_new_files(name: str, tool: str, folder: Path) -> None:
    if shutil.which(tool.split()[0]) is None:
        pytest.skip(f"no {tool}")
    sides = CASES[name]
    for file, (old, _) in sides.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(old)
    text = diff(proposal(sides, folder))
    command = ["patch", "-p0", "-s", "--binary"] if tool == "patch" else ["git", "apply", "-p0"]
    subprocess.run(command, input=text.encode(), check=True, cwd=folder)
    assert {file: (folder / file).read_bytes() for file in sides} == {file: new for file, (_, new) in sides.items()}


def test_a_file_in_another_encoding_is_shown_as_text_and_applies_in_that_encoding(folder: Path) -> None:
    head = "# -*- coding: latin-1 -*-\n# Größe\n"
    old, new = (f"{head}x = {value}\n".encode("latin-1") for value in (1, 2))
    text = diff(Proposal({folder / "model.py": old}, {folder / "model.py": new}))
    assert " # Größe\n" in text
    (folder / "model.py").write_bytes(old)
    subprocess.run(["patch", "-p0", "-s"], input=text.encode("latin-1"), check=True, cwd=folder)
    assert (folder / "model.py").read_bytes() == new


def test_an_encoding_that_is_unknown_is_no_obstacle(folder: Path) -> None:
    old, new = (f"# coding: klingon\nx = {value}\n".encode() for value in (1, 2))
    assert "+x = 2\n" in diff(Proposal({folder / "model.py": old}, {folder / "model.py": new}))


def test_a_new_file_comes_from_nothing(folder: Path) -> None:
    text = diff(Proposal({}, {folder / "fixed.py": b"x = 1\n"}))
    assert text == "--- /dev/null\n+++ fixed.py\n@@ -0,0 +1 @@\n+x = 1\n"


def test_where_nothing_changes_the_diff_is_empty(folder: Path) -> None:
    assert diff(Proposal({folder / "a.py": b"x\n"}, {folder / "a.py": b"x\n"})) == ""
    assert diff(Proposal({}, {})) == ""


def test_a_file_elsewhere_is_named_in_full(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "model.py"
    assert diff(Proposal({other: b"x\n"}, {other: b"y\n"})).startswith(f"--- {other}\n+++ {other}\n")


def test_a_reason_is_one_line() -> None:
    assert str(Refused("two\n  lines")) == "two lines"
