"""What gradtool has looked at can be freed afterwards."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def chain() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 2))


@pytest.mark.parametrize("verb", [gct.audit, gct.probe, gct.capture, gct.fix], ids=lambda verb: verb.__name__)
def test_a_model_and_its_weights_are_freed(verb: Callable[[nn.Module, Tensor], object]) -> None:
    x = torch.randn(4, 8)
    verb(chain(), x)  # what is loaded on first use may keep the frames that loaded it
    model = chain()
    kept = weakref.ref(model), weakref.ref(next(model.parameters()))
    verb(model, x)
    del model
    gc.collect()
    assert [one() for one in kept] == [None, None]


LARGE = """
import resource
import sys
import torch
from torch import nn
import gradcheck_tool as gct

gct.fix(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))
gct.fix(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4), auto=True)
model = nn.Sequential(nn.Linear(4000, 6000), nn.ReLU(), nn.Linear(6000, 4000))  # 192 MB
with open("/proc/self/statm") as statm:
    taken = int(statm.read().split()[0]) * resource.getpagesize()
limit = taken + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
verb, options = {
    "probe": (gct.probe, {}),
    "fix": (gct.fix, {"min_depth": 1}),
    "auto": (gct.fix, {"auto": True}),
    "nothing": (gct.fix, {}),
}[sys.argv[1]]
try:
    result = verb(model, torch.randn(8, 4000), **options)
    print(result.plan, result.before, *result.advice, sep="; ")
except gct.GradtoolError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of a process's memory is Linux's")
@pytest.mark.parametrize("verb", ["probe", "fix", "auto"])
@pytest.mark.parametrize("room", [50_000_000, 220_000_000], ids=["for no copy", "for one copy"])
def test_too_little_memory_is_said_in_one_line(verb: str, room: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LARGE, verb, str(room)], capture_output=True, text=True, check=True, env=ENV
    )
    assert "not enough memory for Sequential: its parameters take 0.19 GB" in ran.stdout
    assert len(ran.stdout.splitlines()) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of a process's memory is Linux's")
@pytest.mark.parametrize(
    ("room", "more"),
    [
        pytest.param(
            50_000_000,
            "; there was not enough memory to copy the weights: .model shares them with the model that was given",
            id="for no copy",
        ),
        pytest.param(220_000_000, "", id="for one copy"),
    ],
)
def test_that_there_is_nothing_to_insert_is_said_with_little_memory_too(room: int, more: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LARGE, "nothing", str(room)], capture_output=True, text=True, check=True, env=ENV
    )
    assert ran.stdout == (
        "(); None; there was not enough memory to probe the model: take a smaller batch or fewer layers for that"
        f"{more}\n"
    )
