"""What capture and audit cost against one bare forward pass on the meta device, and against their peers: torch.fx,
torch.export, torchinfo and torchview, on six public models, in one process.

Needs timm, torchvision and transformers, and torchinfo and torchview for their columns; what is not installed is left
out and said. Prints medians of CPU time, as multiples of the bare forward pass; exits 1 where ours miss their goals.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
import zoo
from tabulate import tabulate
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.capturing import observe
from gradcheck_tool.inputs import for_model

BATCH = 2
GOALS = {"record": 1.3, "audit": 1.6, "audit, weights": 1.6}
"""Multiples of a bare forward pass on meta, also where the audit reads the weights, which that pass does not. torchinfo
and torchview, which run the same pass, are near these."""

Build = Callable[[], nn.Module]


def image() -> Tensor:
    """Two samples of ImageNet's usual size."""
    return torch.empty(BATCH, 3, 224, 224)


def tokens() -> Tensor:
    """Two sentences of 128 tokens."""
    return torch.zeros(BATCH, 128, dtype=torch.long)


def _timm(name: str) -> Build:
    return lambda: zoo.imported("timm").create_model(name)


def _bert() -> nn.Module:
    transformers = zoo.imported("transformers")
    return transformers.BertModel(transformers.BertConfig())


MODELS: dict[str, tuple[Build, Callable[[], Tensor]]] = {
    "resnet50": (_timm("resnet50"), image),
    "vit_base": (_timm("vit_base_patch16_224"), image),
    "convnext_tiny": (_timm("convnext_tiny"), image),
    "densenet121": (_timm("densenet121"), image),
    "swin_tiny": (_timm("swin_tiny_patch4_window7_224"), image),
    "bert-base": (_bert, tokens),
}


def _torchinfo(model: nn.Module, x: Tensor) -> object:
    return importlib.import_module("torchinfo").summary(model, input_data=(x,), verbose=0, device="meta", mode="train")


def _torchview(model: nn.Module, x: Tensor) -> object:
    return importlib.import_module("torchview").draw_graph(model, input_data=(x,), device="meta", mode="train")


TOOLS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "forward": lambda model, x: model(x),
    "record": lambda model, x: observe(model, for_model(model, x)),
    "audit": gct.audit,
    "torchinfo": _torchinfo,
    "torchview": _torchview,
    "fx.symbolic_trace": lambda model, x: torch.fx.symbolic_trace(model),
    "torch.export": lambda model, x: torch.export.export(model, (x,), strict=False),
    "capture": gct.capture,
}
"""`capture` makes four recordings or more (two batch sizes, two modes) and a module of them; `audit` makes one."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of one call, with the collector run before and out of the way."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    try:
        work()
        return time.process_time() - start
    finally:
        gc.enable()


def measure(model: nn.Module, x: Tensor, weighted: nn.Module, repeat: int) -> dict[str, float | None]:
    """The median time of each tool on `model`, which is on meta; `audit, weights` on `weighted`, which is not."""
    works: dict[str, Callable[[], object]] = {name: lambda t=tool: t(model, x) for name, tool in TOOLS.items()}
    real = torch.zeros(x.shape, dtype=x.dtype)
    works["audit, weights"] = lambda: gct.audit(weighted, real)
    times: dict[str, list[float]] = {name: [] for name in works}
    failed: set[str] = set()
    for turn in range(repeat + 1):  # in turn, so that a noisy moment meets all of them; the first turn warms up
        for name, work in works.items():
            slow = name in ("torch.export", "capture") and turn > 2
            if name in failed or slow:
                continue
            try:
                taken = cpu_seconds(work)
            except Exception:  # noqa: BLE001  a peer that cannot do the model, or is not installed
                failed.add(name)
                continue
            if turn:
                times[name].append(taken)
    return {name: statistics.median(spent) if spent and name not in failed else None for name, spent in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, of which the median counts")
    parser.add_argument("--match", default="", help="only models whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows, missed = [], []
    columns = ("record", "audit", "audit, weights", *list(TOOLS)[3:])
    for name, (build, make_input) in MODELS.items():
        if options.match not in name:
            continue
        with torch.device("meta"):
            model, x = build().train(), make_input()
        times = measure(model, x, build().train(), options.repeat)
        bare = times["forward"]
        assert bare is not None
        ratios = {column: None if (t := times[column]) is None else t / bare for column in columns}
        missed += [f"{name}: {tool} {ratio:.2f}" for tool, goal in GOALS.items() if (ratio := ratios[tool] or 0) > goal]
        rows.append((name, bare * 1000, *(ratios[column] for column in columns)))
        print(f"{name} done", file=sys.stderr)
    headers = ("", "forward, ms", *columns)
    print(tabulate(rows, headers=headers, floatfmt=("", ".0f", *[".2f"] * len(columns)), missingval="fails"))
    print(f"{len(missed)} of {len(rows) * len(GOALS)} goals missed" + "".join(f"\n  {line}" for line in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
