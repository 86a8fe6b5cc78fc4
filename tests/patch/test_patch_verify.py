"""The fresh process in which a patch is checked: it sees the patched source, and leaves nothing behind."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradcheck_tool import auditing
from gradcheck_tool.capturing import capture
from gradcheck_tool.measuring import measurable
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.remedy.patch import processes
from gradcheck_tool.remedy.patch import verify as verifying
from gradcheck_tool.remedy.patch.expectation import expect
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.verify import verify
from gradcheck_tool.remedy.rewrite import insert
from gradcheck_tool.target.request import LoadRequest

MODEL = """
import torch
from torch import nn
from blocks_of_verify_tests import Block

class Net(nn.Module):
    def __init__(self, depth=4):
        super().__init__()
        self.body = nn.ModuleList([Block(8) for _ in range(depth)])
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        for block in self.body:
            x = block(x)
        return self.out(x)
"""
BLOCKS = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return torch.sigmoid(self.fc(x))
"""
NORM = "self.fc = nn.Linear(width, width)\n        self.norm = nn.BatchNorm1d(width)"
PATCHED = BLOCKS.replace("self.fc = nn.Linear(width, width)", NORM).replace("(self.fc(x))", "(self.norm(self.fc(x)))")


@dataclass(frozen=True)
class Project:
    """model.py, which imports its blocks from another file."""

    folder: Path

    def verify(self, after: Mapping[str, str], **request: str | float) -> Mapping[str, str]:
        """Verifies a patch of these files."""
        asked = LoadRequest(**{"spec": "model_of_verify_tests.py", **request})  # type: ignore[arg-type]
        subject = measurable(asked.load(), 0, always=True)
        reading = auditing.read(subject.model, subject.inputs)
        plan = insertions_of(InsertNorm().plan(Case(subject.model, subject.inputs, reading.structure)))
        assert len(plan) >= 4
        expected = expect(subject.model, subject.inputs, insert(capture(subject.model, subject.inputs)[0], plan))
        before = {self.folder / name: (self.folder / name).read_bytes() for name in after}
        patched = {self.folder / name: text.encode() for name, text in after.items()}
        return verify(Proposal(before, patched), expected, asked).renamed

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    folder, temporary = tmp_path / "project", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    (folder / "model_of_verify_tests.py").write_text(MODEL)
    (folder / "blocks_of_verify_tests.py").write_text(BLOCKS)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for name in ("model_of_verify_tests", "blocks_of_verify_tests"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return Project(folder)


@pytest.fixture(params=["a fork", "an interpreter"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a process comes to be."""
    if request.param == "an interpreter":
        monkeypatch.setattr(processes, "_NURSERY", ContextVar("none", default=None))
    return str(request.param)


def left_behind(project: Project) -> list[Path]:
    return list((project.folder.parent / "temporary").glob("gradtool-*"))


@pytest.mark.usefixtures("each_way")
def test_a_patch_of_an_imported_file_is_seen_and_nothing_is_written(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    before = project.files()
    loud = "import sys\nprint('loud')\nprint('louder', file=sys.stderr)\n" + PATCHED
    assert project.verify({"blocks_of_verify_tests.py": loud}, spec="model_of_verify_tests.py:Net(depth=5)") == {}
    assert capfd.readouterr() == ("", "")
    assert project.files() == before
    assert left_behind(project) == []


def test_a_module_is_loaded_by_its_name_with_the_inputs_that_were_asked_for(project: Project) -> None:
    request = {"spec": "model_of_verify_tests:Net", "seed": 3}
    wrapped = BLOCKS.replace("nn.Linear(width, width)", "nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))")
    renamed = project.verify({"blocks_of_verify_tests.py": wrapped}, **request)
    assert renamed == {f"body.{i}.fc.{leaf}": f"body.{i}.fc.0.{leaf}" for i in range(4) for leaf in ("weight", "bias")}


def test_inputs_of_a_class_of_the_users_own_are_found_where_they_came_from(project: Project) -> None:
    file = project.folder / "model_of_verify_tests.py"
    head = "import dataclasses\n@dataclasses.dataclass\nclass Batch:\n    x: object\n    scale: float\n"
    taken = MODEL.replace("for block in", "x = x.x * x.scale\n        for block in")
    file.write_text(f"{head}{taken}\ndef example_inputs():\n    return Batch(torch.randn(6, 8), 2.0)\n")
    assert project.verify({"blocks_of_verify_tests.py": PATCHED}) == {}


@pytest.mark.parametrize(
    ("patched", "reason"),
    [
        pytest.param(
            PATCHED.replace("self.norm(", "self.nrom("),
            "blocks_of_verify_tests.py:12: forward of Net raised AttributeError: 'Block' object has no attribute",
            id="what raises, with the last line of its traceback",
        ),
        pytest.param(PATCHED + "\nimport os\nos._exit(3)\n", "the process ended with code 3", id="an exit"),
        pytest.param(
            PATCHED + "\nimport os, sys\nprint('dying', file=sys.stderr, flush=True)\nos.abort()\n",
            "the process ended by SIGABRT (dying)",
            id="a crash, with the last line that was printed",
        ),
        pytest.param(PATCHED + "\nimport sys\nsys.exit()\n", "ended in sys.exit()", id="a polite exit"),
    ],
)
def test_refused_is(project: Project, patched: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        project.verify({"blocks_of_verify_tests.py": patched})
    assert reason in str(caught.value)
    assert left_behind(project) == []


def test_what_takes_too_long_is_ended_with_all_that_it_has_started(
    project: Project, each_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = 2.0 if each_way == "a fork" else 5.0  # importing torch takes its time
    monkeypatch.setattr(verifying, "_START", 1.0)
    pids = project.folder.parent / "pids"
    loop = f"""
import os, subprocess, sys, threading, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
while True:
    try:
        time.sleep(600)
    except BaseException:
        pass
"""
    limit = 2 * timeout + 1
    with pytest.raises(Refused, match=rf"was not done after {limit:g} s; give it longer with --timeout SECONDS"):
        project.verify({"blocks_of_verify_tests.py": PATCHED + loop}, timeout=timeout)
    deadline = time.monotonic() + 10
    while any(map(runs, pids.read_text().split())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(runs, pids.read_text().split()))
    assert left_behind(project) == []


def runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def test_a_thread_that_never_ends_does_not_keep_the_check(project: Project) -> None:
    threads = "\nimport threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    assert project.verify({"blocks_of_verify_tests.py": PATCHED + threads}) == {}


# the process that checks are forked from


@pytest.mark.usefixtures("each_way")
def test_each_check_has_the_surroundings_of_its_moment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.verify({"blocks_of_verify_tests.py": PATCHED}) == {}
    monkeypatch.setenv("WIDTH_OF_VERIFY_TESTS", "8")
    (project.folder / "elsewhere").mkdir()
    (project.folder / "elsewhere" / "named_of_verify_tests.py").write_text("WIDTH = 8\n")
    monkeypatch.syspath_prepend(str(project.folder / "elsewhere"))
    seen = """
import os
from pathlib import Path
from named_of_verify_tests import WIDTH
assert int(os.environ["WIDTH_OF_VERIFY_TESTS"]) == WIDTH
assert Path("elsewhere").is_dir()
"""
    assert project.verify({"blocks_of_verify_tests.py": PATCHED + seen}) == {}


def test_one_check_leaves_nothing_to_the_next(project: Project) -> None:
    trace = "\nimport torch\nassert not hasattr(torch, 'trace_of_verify_tests')\ntorch.trace_of_verify_tests = 1\n"
    for _ in range(2):
        assert project.verify({"blocks_of_verify_tests.py": PATCHED + trace}) == {}


def test_where_the_prepared_process_ends_another_is_started(project: Project) -> None:
    murder = f"\nimport os, signal\nif os.getppid() != {os.getpid()}: os.kill(os.getppid(), signal.SIGKILL)\n"
    for _ in range(2):
        assert project.verify({"blocks_of_verify_tests.py": PATCHED + murder}) == {}


def test_one_process_is_prepared_and_at_the_end_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_NURSERY", ContextVar("own", default=None))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    children = set(children_of(os.getpid()))
    with processes.prepared(), processes.prepared():
        assert len(set(children_of(os.getpid())) - children) == 1
    assert set(children_of(os.getpid())) <= children


def test_with_one_core_nothing_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_NURSERY", ContextVar("own", default=None))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    children = set(children_of(os.getpid()))
    with processes.prepared():
        assert set(children_of(os.getpid())) <= children


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
