"""Layers that one place in the source makes, of which some are in a deep chain and some are not: a person gives norms
to all of them or to none."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gradcheck_tool.cli import gradtool

SKIP = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(24 if i == 5 else width if i else 8, width) for i in range(8)])
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        h = x
        for i, layer in enumerate(self.layers):
            if i == 5:
                h = torch.cat([x, h], -1)
            h = torch.sigmoid(layer(h))
        return self.out(h)

example_inputs = torch.randn(16, 8)
"""
HEAD = """
import torch
from torch import nn

def tower(width):
    layers = []
    for size_in, size_out in ((8, width), (width, width), (width, width), (width, width)):
        layers += [nn.Linear(size_in, size_out), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(width, 8))

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.towers = nn.ModuleList(tower(width) for _ in range(2))

    def forward(self, x):
        for number, tower in enumerate(self.towers):
            x = tower(x)
            x = torch.tanh(x) if number == 0 else x
        return x

example_inputs = torch.randn(16, 8)
"""
ACTIVATIONS_BESIDE = """
import torch
from torch import nn

class MLP(nn.Sequential):
    def __init__(self, sizes):
        layers = []
        for i, (size_in, size_out) in enumerate(zip(sizes, sizes[1:])):
            layers.append(nn.Linear(size_in, size_out))
            if i < len(sizes) - 2:
                layers.append(nn.Sigmoid())
        super().__init__(*layers)

class Dueling(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = MLP([8, 16, 16, 16, 16])
        self.value, self.advantage = MLP([16, 12, 1]), MLP([16, 12, 4])

    def forward(self, x):
        x = torch.sigmoid(self.trunk(x))
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(-1, keepdim=True)

example_inputs = torch.randn(16, 8)
"""
NONE_IS_LEFT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(6))

    def forward(self, x):
        for act, layer in zip([torch.sigmoid] * 5 + [torch.clone], self.layers):
            x = act(layer(x))
        return x

example_inputs = torch.randn(16, 8)
"""


def fixed(folder: Path, source: str, *options: str) -> dict[str, Any]:
    (folder / "model.py").write_text(textwrap.dedent(source))
    result = CliRunner().invoke(gradtool, ["fix", "--insert-bn", "--format", "json", *options, "model.py"])
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def added(diff: str) -> list[str]:
    return [line[1:].strip() for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]


def test_the_rest_of_a_place_gets_norms_too(working_folder: Path) -> None:
    found = fixed(working_folder, SKIP)
    assert found["patch_refused"] is None
    assert [norm["after"] for norm in found["plan"]] == [f"layers.{i}" for i in range(8)]
    assert {norm["note"] for norm in found["plan"][:5]} == {None}
    assert {norm["note"] for norm in found["plan"][5:]} == {
        "layers.5, layers.6, layers.7 too: the same place makes layers.0, layers.1 and 3 more"
    }
    assert found["improved"]
    assert "h = torch.sigmoid(self.layers_norms[i](layer(h)))" in added(found["diff"])


def test_where_some_of_a_place_takes_no_norm_none_of_it_gets_one(working_folder: Path) -> None:
    found = fixed(working_folder, HEAD)
    assert found["patch_refused"] is None
    assert [norm["after"] for norm in found["plan"]] == [f"towers.{t}.{i}" for t in range(2) for i in (0, 2, 4, 6)]
    assert [(skip["layer"], skip["reason"]) for skip in found["skipped"]] == [
        ("towers.0.8", "the source cannot tell it from towers.1.8, made in the same place")
    ]
    assert added(found["diff"]) == ["layers += [nn.Linear(size_in, size_out), nn.BatchNorm1d(size_out), nn.Sigmoid()]"]


def test_those_with_an_activation_beside_them_get_norms_and_the_others_none(working_folder: Path) -> None:
    found = fixed(working_folder, ACTIVATIONS_BESIDE)
    assert found["patch_refused"] is None
    assert [norm["after"] for norm in found["plan"]] == ["trunk.0", "trunk.2", "trunk.4", "advantage.0", "value.0"]
    assert [(skip["layer"], skip["reason"]) for skip in found["skipped"]] == [
        ("trunk.6", "the source cannot tell it from trunk.0, trunk.2 and 5 more, made in the same place")
    ]
    assert added(found["diff"]) == ["layers.append(nn.BatchNorm1d(size_out))"]


def test_where_nothing_would_be_left_the_module_is_offered(working_folder: Path) -> None:
    found = fixed(working_folder, NONE_IS_LEFT)
    assert found["patch_refused"] is not None
    assert len(found["plan"]) == 5
    assert "build_fixed" in found["diff"]


def test_a_second_run_finds_nothing_to_do(working_folder: Path) -> None:
    for source in (SKIP, HEAD, ACTIVATIONS_BESIDE):
        fixed(working_folder, source, "-i")
        again = fixed(working_folder, (working_folder / "model.py").read_text())
        assert (again["plan"], again["diff"]) == ([], "")


@pytest.mark.parametrize("command", ["fix --insert-bn", "fix --insert-bn --keep-function", "fix --auto"])
def test_a_model_that_takes_a_gradient_itself_is_patched(command: str, working_folder: Path) -> None:
    (working_folder / "model.py").write_text(TAKES_A_GRADIENT)
    result = CliRunner().invoke(gradtool, [*command.split(), "--format", "json", "model.py"])
    found = json.loads(result.stdout)
    assert found["patch_refused"] is None
    assert found["diff"]


TAKES_A_GRADIENT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=16, depth=9):
        super().__init__()
        layers = [nn.Linear(2, width), nn.Sigmoid()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.Sigmoid()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x):
        x = x.requires_grad_()
        u = self.net(x)
        slope, = torch.autograd.grad(u.sum(), x, create_graph=True)
        return u, slope

example_inputs = torch.rand(32, 2)
"""
