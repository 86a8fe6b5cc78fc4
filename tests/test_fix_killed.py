"""`fix --in-place`, killed before each thing that it does to the user's folder, leaves the old file or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = """import torch
from torch import nn

model = nn.Sequential(
    nn.Linear(4, 8), nn.Sigmoid(),
    nn.Linear(8, 8), nn.Sigmoid(),
    nn.Linear(8, 8), nn.Sigmoid(),
    nn.Linear(8, 8), nn.Sigmoid(),
    nn.Linear(8, 2),
)
"""

KILLED = """
import os, pathlib, signal, sys
import torch
from gradcheck_tool import cli, fixing
from gradcheck_tool.fixing import change
from gradcheck_tool.remedy.patch import processes
from gradcheck_tool.remedy.patch.expectation import Checked

torch.set_num_threads(1)
change.verify = lambda *_: Checked()  # it writes nothing, and takes seconds
processes._can_fork = lambda: False
file = pathlib.Path("model.py")
old = file.read_bytes()
outcomes = []
while "whole" not in outcomes:
    file.write_bytes(old)
    pid = os.fork()
    if pid == 0:
        left = len(outcomes)
        events = ("os.rename", "os.remove", "os.chmod", "os.link", "os.truncate")

        def count(event, args):
            global left
            place = str(args[0]) if args else ""
            writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event in events) and os.getcwd() in os.path.abspath(place):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        cli.gradtool(["fix", "--insert-bn", "--in-place", "-q", "model.py"], standalone_mode=False)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    outcomes.append("old" if killed and file.read_bytes() == old else "new" if killed else "whole")
    text = file.read_text()
    assert text.encode() == old or text.count("BatchNorm1d") == 4, text
    compile(text, "model.py", "exec")
    for left_over in pathlib.Path().glob(".gradtool-*.tmp"):
        left_over.unlink()
print(*outcomes)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="no fork here")
def test_a_killed_fix_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split()
    assert outcomes[-1] == "whole"
    assert outcomes.count("old") >= 3, "killed before the file is made, while it is written, before it takes its place"
