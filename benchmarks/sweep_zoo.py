"""The zoo's sweep with every model in a process of its own, under a limit of memory: one that is too large ends alone.

    python benchmarks/sweep_zoo.py ZOO_FOLDER OUT timm --replay --fix --limit 20

ZOO_FOLDER holds `sweep.py`, whose counts these are. One row a model is appended to OUT, so that a sweep that was
stopped goes on where it was. At the end it prints the sums, and each failure with its message.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import resource
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any


def run_one(
    sweep: ModuleType, zoo: str, entry: tuple[Any, ...], flags: list[str], limit_gb: float, row_file: Path
) -> None:
    """Run the sweep over one model in a child of this process; its last line, counts and all, goes to `row_file`."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            row_file.write_text(json.dumps({"model": entry[0], "line": _ended(os.waitstatus_to_exitcode(status))}))
        return
    limit = int(limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sweep.ZOOS[zoo] = lambda every: [entry]
    sys.argv = ["sweep.py", "--only", zoo, *flags]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        sweep.main()
    row_file.write_text(json.dumps({"model": entry[0], "line": printed.getvalue()}))
    os._exit(0)


def _ended(code: int) -> str:
    return f"ended by signal {-code}: most probably memory" if code < 0 else f"ended with exit code {code}"


def summary(rows: list[dict[str, Any]]) -> str:
    """The sums of the rows' counts, the ratios to a bare forward pass, and every line that tells of a failure."""
    counts: dict[str, int] = {}
    ratios, failures = [], []
    for row in rows:
        found = False
        for line in row["line"].splitlines():
            analysed = re.match(r"\w+: (\d+) of (\d+) analysed(?:, median ([\d.]+)x)?.*?; (.*)", line)
            if analysed is None:
                failures.append(f"{row['model']}: {line}" if row["model"] not in line else line)
                continue
            found = True
            if analysed[3]:
                ratios.append(float(analysed[3]))
            for part in analysed[4].split("; "):
                key, number = part.rsplit(" ", 1)
                counts[key] = counts.get(key, 0) + int(number)
        if not found:
            counts["ended"] = counts.get("ended", 0) + 1
    told = "; ".join(f"{key} {number}" for key, number in counts.items())
    if ratios:
        told += f"; median {statistics.median(ratios):.2f}x and worst {max(ratios):.2f}x a bare meta forward pass"
    return "\n".join([*failures, f"{len(rows)} models: {told}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("zoo", choices=["timm", "torchvision", "transformers"])
    parser.add_argument("--limit", type=float, default=20, help="address space of one model's process, in GiB")
    parser.add_argument("--names", default="", help="only these models, with commas between")
    parser.add_argument("--seconds", type=int, help="for each attempt; the sweep's own limit without it")
    options, flags = parser.parse_known_args()
    sys.path.insert(0, str(options.folder))
    import sweep
    import torch

    import gradcheck_tool as gct

    sweep.LIMIT_S = options.seconds or sweep.LIMIT_S

    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.ReLU())
    gct.fix(net, torch.zeros(2, 4))  # what is imported at first use is imported before the children are there

    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    seen = {row["model"] for row in done}
    names = set(options.names.split(",")) if options.names else None
    one = Path(f"{options.out}.one")
    for entry in sweep.ZOOS[options.zoo]("--all" in flags):
        if entry[0] in seen or (names is not None and entry[0] not in names):
            continue
        start = time.perf_counter()
        run_one(sweep, options.zoo, entry, flags, options.limit, one)
        row = json.loads(one.read_text()) | {"seconds": round(time.perf_counter() - start, 1)}
        done.append(row)
        with options.out.open("a") as out:
            out.write(json.dumps(row) + "\n")
    print(summary(done))


if __name__ == "__main__":
    main()
