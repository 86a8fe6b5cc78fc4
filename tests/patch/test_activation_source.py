"""Other activations, and several remedies one after the other, written into the user's own source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gradcheck_tool.remedy.activations import ChangeActivation
from gradcheck_tool.remedy.base import Remedy
from gradcheck_tool.remedy.combination import Combination
from gradcheck_tool.remedy.insert_norm import InsertNorm
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.scale_inputs import ScaleInputs

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
NET = """
class Net(nn.Module):
    def __init__(self, depth=5):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(depth)])
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        for layer in self.layers:
            x = ACT(layer(x))
        return self.out(x)
"""
SEQUENTIAL = """
def build_model(depth=5):
    parts = []
    for _ in range(depth):
        parts += [nn.Linear(16, 16), ACT]
    return nn.Sequential(*parts, nn.Linear(16, 4))
"""
BARE = """
import torch
from torch.nn import Linear, Module, Sequential, Softshrink

model = Sequential(Linear(16, 16), Softshrink(0.2), Linear(16, 16), Softshrink(0.2), Linear(16, 4))
"""


def exchanged(source: str, new: str) -> list[str]:
    return [f"-{source}", f"+{new}"]


@pytest.mark.parametrize(
    ("source", "act", "new"),
    [
        pytest.param(NET, "torch.sigmoid(layer(x))", "torch.relu(layer(x))", id="function of torch"),
        pytest.param(NET, "F.tanhshrink(layer(x))", "F.relu(layer(x))", id="function of torch.nn.functional"),
        pytest.param(NET, "layer(x).sigmoid()", "layer(x).relu()", id="method"),
        pytest.param(NET, "layer(x).sigmoid_()", "layer(x).relu_()", id="method in place"),
        pytest.param(SEQUENTIAL, "nn.Sigmoid()", "nn.ReLU()", id="module"),
        pytest.param(SEQUENTIAL, "nn.Hardsigmoid(inplace=True)", "nn.ReLU(inplace=True)", id="module in place"),
        pytest.param(SEQUENTIAL, "nn.Softshrink(0.2)", "nn.ReLU()", id="module with a setting of its own"),
    ],
)
def test_the_activation_is_exchanged_where_it_stands(
    source: str, act: str, new: str, changed: Callable[[str, Remedy], list[str]]
) -> None:
    old = next(line for line in source.split("\n") if "ACT" in line)
    place = "ACT(layer(x))" if "ACT(layer(x))" in old else "ACT"
    lines = changed(HEAD + source.replace(place, act), ChangeActivation())
    assert lines == exchanged(old.replace(place, act), old.replace(place, new))


def test_a_class_that_is_not_known_yet_is_imported(changed: Callable[[str, Remedy], list[str]]) -> None:
    assert changed(BARE, ChangeActivation()) == [
        "-from torch.nn import Linear, Module, Sequential, Softshrink",
        "+from torch.nn import Linear, Module, ReLU, Sequential, Softshrink",
        "-model = Sequential(Linear(16, 16), Softshrink(0.2), Linear(16, 16), Softshrink(0.2), Linear(16, 4))",
        "+model = Sequential(Linear(16, 16), ReLU(), Linear(16, 16), ReLU(), Linear(16, 4))",
    ]


SHARED = HEAD + (
    NET.replace("ACT", "self.act")
    .replace("self.out =", "self.act = nn.Sigmoid()\n        self.out =")
    .replace("return self.out(x)", "return self.act(self.out(x))")
)
STORED = HEAD + NET.replace("ACT", "self.act").replace("self.out =", "self.act = torch.sigmoid\n        self.out =")
NAMED = (
    HEAD + "class Exp(nn.Module):\n    def forward(self, x):\n        return x.exp()\n" + NET.replace("ACT", "Exp()")
)
POWER = HEAD + NET.replace("ACT(layer(x))", "layer(x) ** 2")
GELU = HEAD + NET.replace("ACT", "torch.sigmoid")


@pytest.mark.parametrize(
    ("source", "remedy", "reason"),
    [
        pytest.param(
            SHARED,
            ChangeActivation(),
            "the Sigmoid behind layers.0 is called for others that keep it",
            id="shared module",
        ),
        pytest.param(STORED, ChangeActivation(), "is not called by its name alone", id="function in an attribute"),
        pytest.param(NAMED, ChangeActivation(), "is called after it", id="class of that name"),
        pytest.param(POWER, ChangeActivation(), "is not called by its name in your files", id="operator"),
        pytest.param(GELU, ChangeActivation("gelu"), "torch.sigmoid has no gelu of the same", id="no such function"),
        pytest.param(
            GELU.replace("x = torch", "x = 1e3 * torch") + "\nexample_inputs = 1000 * torch.randn(32, 16)\n",
            ScaleInputs(),
            "scale-inputs is not written into a source",
            id="another remedy",
        ),
    ],
)
def test_what_is_not_natural_is_refused(
    source: str, remedy: Remedy, reason: str, changed: Callable[[str, Remedy], list[str]]
) -> None:
    with pytest.raises(Refused, match=reason):
        changed(source, remedy)


DEEP = HEAD + SEQUENTIAL.replace("ACT", "nn.Sigmoid()").replace("depth=5", "depth=8")
DRAWN = [
    "+    # at the critical gain of the activations a gradient keeps its norm",
    "+    layers = [layer for layer in model if isinstance(layer, nn.Linear)]",
    "+    for i, layer in enumerate(layers[:-1]):",
    "+        nn.init.orthogonal_(layer.weight, gain=2**0.5 if i else 1.0)",
    "+        nn.init.zeros_(layer.bias)",
    "+    return model",
]
RETURN = "    return nn.Sequential(*parts, nn.Linear(16, 4))"


@pytest.mark.parametrize(
    ("remedies", "lines"),
    [
        pytest.param(
            (ChangeActivation(), Reinitialize()),
            [
                "-        parts += [nn.Linear(16, 16), nn.Sigmoid()]",
                f"-{RETURN}",
                "+        parts += [nn.Linear(16, 16), nn.ReLU()]",
                f"+{RETURN.replace('return', 'model =')}",
                *DRAWN,
            ],
            id="activations, then weights for them",
        ),
        pytest.param(
            (ChangeActivation(), Reinitialize(), InsertNorm("batch")),
            [
                "-        parts += [nn.Linear(16, 16), nn.Sigmoid()]",
                f"-{RETURN}",
                "+        parts += [nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()]",
                f"+{RETURN.replace('return', 'model =')}",
                *DRAWN,
            ],
            id="and norms",
        ),
    ],
)
def test_remedies_are_written_one_after_the_other(
    remedies: Sequence[Any], lines: list[str], changed: Callable[[str, Remedy], list[str]]
) -> None:
    assert changed(DEEP, Combination(tuple(remedies))) == lines
