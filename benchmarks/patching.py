"""Patches random sources and counts how it went: `python benchmarks/patching.py [N] [--shortcuts] [--keep FOLDER]`.

Prints how many were patched, how many refused and why, and how many patches were wrong, with the features of the
sources. `--keep` writes each source that was patched wrongly there, with the patch and the reason. Exits 1 if any was.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate


def ours(name: str) -> Any:
    """A module of the tests of patches."""
    here = str(Path(__file__).parent.parent / "tests" / "patch")
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)


def keep(folder: Path, seed: int, drawn: Any, result: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = [repr(drawn), f"# ==== {result.kind} ====", result.reason, "# ==== patched ====", result.after]
    (folder / f"{seed}_{result.kind}.txt").write_text("\n".join(parts))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", nargs="?", type=int, default=200, help="of sources (default: 200)")
    parser.add_argument("--start", type=int, default=0, help="seed of the first")
    parser.add_argument("--shortcuts", action="store_true", help="write shortcuts, and no norms")
    parser.add_argument("--keep", type=Path, help="folder for those that are patched wrongly")
    parser.add_argument("--refused", action="store_true", help="keep those that are refused too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sources, patches = ours("random_sources"), ours("random_shortcuts" if options.shortcuts else "random_patches")
    kinds: Counter[str] = Counter()
    reasons: dict[str, list[int]] = defaultdict(list)
    features: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(options.start, options.start + options.number):
        drawn = sources.source(seed)
        with tempfile.TemporaryDirectory() as folder:
            result = patches.outcome(drawn, Path(folder).resolve() / "source")
        kinds[result.kind] += 1
        for feature in drawn.features:
            features[feature][result.kind] += 1
        if result.kind in ("refused", "wrong"):
            last = result.reason.strip().splitlines()[-1] if result.reason.strip() else "no reason"
            reasons[f"{result.kind}: {last}"].append(seed)
        if options.keep and (result.kind == "wrong" or (options.refused and result.kind == "refused")):
            keep(options.keep, seed, drawn, result)
    names = ["nothing", "patched", "refused", "wrong"]
    rows = [[name, features[name].total(), *(features[name][kind] for kind in names)] for name in sources.FEATURES]
    rows.append(["all", options.number, *(kinds[kind] for kind in names)])
    print(tabulate(rows, headers=["with", "sources", *names]))
    for reason, seeds in sorted(reasons.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):4} {reason[:200]}  (seed {', '.join(map(str, seeds[:4]))})")
    return int(kinds["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
