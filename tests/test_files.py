"""Several files are written together or not at all, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradcheck_tool import files
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.files import write_all, write_whole

OLD = {"a.py": b"old a\n", "b.py": b"old b\r\n", "c.py": b"old c"}
NEW = {"a.py": b"new a\n", "b.py": b"new b\r\n", "c.py": b"new c"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in OLD.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def changes(folder: Path) -> dict[Path, bytes]:
    return {folder / name: content for name, content in NEW.items()}


def test_all_are_written(folder: Path) -> None:
    write_all(changes(folder), {folder / name: content for name, content in OLD.items()})
    assert contents(folder) == NEW


def test_modes_are_kept_links_are_followed_and_new_files_are_made(folder: Path, tmp_path: Path) -> None:
    (folder / "a.py").chmod(0o751)
    (folder / "link.py").symlink_to("b.py")
    write_all({folder / "a.py": b"1", folder / "link.py": b"2", folder / "new.py": b"3"})
    assert ((folder / "a.py").stat().st_mode & 0o777, (folder / "link.py").is_symlink()) == (0o751, True)
    assert contents(folder) == {"a.py": b"1", "b.py": b"2", "link.py": b"2", "c.py": OLD["c.py"], "new.py": b"3"}


def test_a_file_that_was_edited_meanwhile_stays_and_so_do_the_others(folder: Path) -> None:
    (folder / "c.py").write_bytes(b"edited")
    with pytest.raises(GradtoolError, match=r"c\.py was edited meanwhile: nothing is written; run gradtool fix again"):
        write_all(changes(folder), {folder / name: content for name, content in OLD.items()})
    assert contents(folder) == OLD | {"c.py": b"edited"}


def test_a_file_that_was_removed_meanwhile_is_not_made_again(folder: Path) -> None:
    (folder / "c.py").unlink()
    with pytest.raises(GradtoolError, match="was edited meanwhile"):
        write_all(changes(folder), {folder / "c.py": OLD["c.py"]})
    assert contents(folder) == {name: OLD[name] for name in ("a.py", "b.py")}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda path: path.mkdir(), "it is a folder", id="a folder"),
        pytest.param(os.mkfifo, "it is no ordinary file", id="a pipe"),
        pytest.param(lambda path: path.symlink_to("missing/x.py"), "there is no folder", id="a link to nowhere"),
    ],
)
def test_one_place_that_cannot_be_written_to_keeps_all_from_being_written(
    spoil: Callable[[Path], None], reason: str, folder: Path
) -> None:
    (folder / "c.py").unlink()
    spoil(folder / "c.py")
    before = sorted(folder.iterdir())
    with pytest.raises(GradtoolError, match=reason):
        write_all(changes(folder))
    assert sorted(folder.iterdir()) == before
    assert {name: (folder / name).read_bytes() for name in ("a.py", "b.py")} == {n: OLD[n] for n in ("a.py", "b.py")}


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_took_its_place_before_one_failed_is_put_back(
    failing: int, error: BaseException, links: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "b.py").unlink()  # a file that was not there before is removed again
    (folder / "a.py").chmod(0o640)
    before, replaced = contents(folder), []
    replace = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if target.name in NEW and len(replaced) == failing:
            replaced.append(target.name)
            raise error
        replaced.append(target.name)
        return replace(self, target)

    def no_link(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", fails)
    if not links:
        monkeypatch.setattr(files.os, "link", no_link)
    with pytest.raises(GradtoolError if isinstance(error, OSError) else KeyboardInterrupt):
        write_all(changes(folder))
    assert contents(folder) == before
    assert (folder / "a.py").stat().st_mode & 0o777 == 0o640


def test_an_interrupt_after_the_only_file_took_its_place_leaves_it_new(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        replace(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_all({folder / "a.py": b"new"})
    assert contents(folder) == OLD | {"a.py": b"new"}


def test_where_putting_back_fails_the_old_content_is_kept_and_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, replaced = Path.replace, []

    def broken(self: Path, target: Path) -> Path:
        replaced.append(target)
        if len(replaced) > 1:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(GradtoolError, match=r"a\.py is changed and cannot be put back.*what it held is in ") as caught:
        write_all(changes(folder))
    kept = Path(str(caught.value.hint).removeprefix("what it held is in "))
    assert kept.read_bytes() == OLD["a.py"]
    assert (folder / "b.py").read_bytes() == OLD["b.py"]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"\xff\xfe\r\n")
    assert (tmp_path / "file").read_bytes() == b"\xff\xfe\r\n"


# a process that is killed

WRITER = """
    import sys
    from pathlib import Path
    from gradcheck_tool.files import write_all
    file, other = Path(sys.argv[1]), Path(sys.argv[2])
    contents = [b"a" * 300_000, b"b" * 300_000]
    write_all({file: contents[0], other: contents[0]})
    print("ready", flush=True)
    for turn in range(10**9):
        write_all({file: contents[turn % 2], other: contents[turn % 2]})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_process_that_is_killed_leaves_each_file_old_or_new(tmp_path: Path) -> None:
    draw = random.Random(0)
    names = ["file.py", "other.py"]
    for _ in range(25):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), *(str(tmp_path / name) for name in names)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.wait()
        for name in names:
            content = (tmp_path / name).read_bytes()
            assert content in (b"a" * 300_000, b"b" * 300_000), f"{name} holds {len(content)} bytes"
        strays = [path.name for path in tmp_path.iterdir() if path.name not in names]
        assert all(name.startswith(".gradtool-") and name.endswith(".tmp") for name in strays), strays
