"""What the whole command `gradtool audit` costs on a ResNet-50, against Python importing torch and building the model.

Both are processes of their own, run in turn; the figures are CPU seconds, user and system, as the operating system
counts them. Exits 1 where the command takes more than half a second more.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 0.5
COMMANDS = {
    "build": [sys.executable, "-c", "import resnet50; resnet50.ResNet50()"],
    "audit": [sys.executable, "-m", "gradcheck_tool", "audit", "resnet50.py:ResNet50", "--input", "2x3x224x224"],
}


def cpu_seconds(command: list[str]) -> float:
    """The CPU time of one process, with one thread, from its start to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=HERE, env=environment | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, of which the median counts")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(options.repeat + 1):  # the first turn compiles the sources
        for name, command in COMMANDS.items():
            spent = cpu_seconds(command)
            if turn:
                times[name].append(spent)
    build, audit = (statistics.median(times[name]) for name in COMMANDS)
    print(f"import torch and build {build:.2f} s, gradtool audit {audit:.2f} s: {audit - build:.2f} s more")
    return int(audit - build > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
