"""Every node of a recording, and every module, says where in the user's file it came from: line and column."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import torch
from own_modules import module_at
from torch import nn

import gradcheck_tool as gct
from gradcheck_tool.results import Location
from gradcheck_tool.sources import births, caller, display_path, locate, rank

FORWARD = """
import torch
import torch.nn.functional as F
from torch import nn

helper = lambda x: x.exp().neg()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x):
        größe = "äöü – 数"; x = self.fc(x) + len("é" * 3)
        x = torch.cat([part.relu() for part in x.chunk(2, 1)], 1)
        x = (
            x
            .sigmoid()
        ) * self.scale
        x = helper(x); name = "数学"; y = F.softplus(
            x,
            beta=2,
        )
        y += 1
        x, y = y.tanh(), x[:, 0]
        return x if y is None else (lambda v: "ü" and v.abs())(x)
"""


def loaded(path: Path, text: str) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    return module_at(path)


def excerpt(text: str, place: Location) -> str:
    """What stands at a place: lines and columns are 1-based, in characters, the end exclusive."""
    lines = text.splitlines()[place.line - 1 : place.end_line]
    lines[-1] = lines[-1][: place.end_column - 1]
    lines[0] = lines[0][place.column - 1 :]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("fc", "self.fc(x)"),
        ("add", 'self.fc(x) + len("é" * 3)'),
        ("chunk", "x.chunk(2, 1)"),
        ("relu", "part.relu()"),
        ("cat", "torch.cat([part.relu() for part in x.chunk(2, 1)], 1)"),
        ("sigmoid", "sigmoid()"),
        ("exp", "x.exp()"),
        ("neg", "x.exp().neg()"),
        ("softplus", "F.softplus(\n            x,\n            beta=2,\n        )"),
        ("add_", "y += 1"),
        ("tanh", "y.tanh()"),
        ("getitem", "x[:, 0]"),
        ("abs", "v.abs()"),
    ],
    ids=[
        "a layer behind other letters than ASCII", "an operator", "a call in a comprehension's iterable",
        "a call in a comprehension", "a function over a comprehension",
        "a method on a line of its own", "a call in a helper",
        "a call on a call in a helper", "a call over four lines behind wide letters", "an augmented assignment",
        "one of two in a tuple", "a subscript", "a call in a lambda",
    ],
)  # fmt: skip
def test_a_node_stands_at_the_very_expression(tmp_path: Path, target: str, wanted: str) -> None:
    graph = gct.capture(loaded(tmp_path / "net.py", FORWARD).Net(), torch.randn(4, 6)).graph
    places = [
        node.meta["location"]
        for node in graph.nodes
        if (node.target == target or getattr(node.target, "__name__", "") == target) and "location" in node.meta
    ]
    assert Path(places[-1].file).name == "net.py"
    assert excerpt(FORWARD, places[-1]) == wanted


def test_every_node_but_the_inputs_and_the_output_has_a_place(tmp_path: Path) -> None:
    graph = gct.capture(loaded(tmp_path / "net.py", FORWARD).Net(), torch.randn(4, 6)).graph
    without = [node.name for node in graph.nodes if node.op not in ("placeholder", "output") and not node.meta]
    assert without == []


def test_the_place_of_a_node_of_an_installed_library_is_the_users_call(tmp_path: Path) -> None:
    text = FORWARD.replace("y += 1", "y = y + F.mse_loss(y, x)")
    graph = gct.capture(loaded(tmp_path / "net.py", text).Net(), torch.randn(4, 6)).graph
    (place,) = [node.meta["location"] for node in graph.nodes if "mse" in node.name]
    assert (Path(place.file).name, excerpt(text, place)) == ("net.py", "F.mse_loss(y, x)")


BIRTHS = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.lin = nn.Linear(width, width)

class Own(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)

ü = "ü"; first = nn.Linear(6, 6)
blocks = [Block(6) for _ in range(2)]
model = nn.Sequential(
    first, *blocks,
    Own(
        6,
        3),
    *map(lambda n: nn.Linear(n, n), (3, 3)),
    nn.LSTM(3, 3),
)
"""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("0", "nn.Linear(6, 6)"),
        ("1", "Block(6)"),
        ("2", "Block(6)"),
        ("1.lin", "nn.Linear(width, width)"),
        ("3", "Own(\n        6,\n        3)"),
        ("5", "nn.Linear(n, n)"),
        ("6", "nn.LSTM(3, 3)"),
    ],
    ids=[
        "behind other letters than ASCII", "in a comprehension", "again in a comprehension", "inside another module",
        "a subclass, where the subclass is constructed", "in a lambda", "a module with modules' own initialization",
    ],
)  # fmt: skip
def test_a_module_was_constructed_at_the_very_expression(tmp_path: Path, name: str, wanted: str) -> None:
    with births() as born:
        model = loaded(tmp_path / "built.py", BIRTHS).model
    assert excerpt(BIRTHS, born.of(model)[name]) == wanted


def test_births_are_noted_in_the_context_only() -> None:
    original = nn.Module.__init__
    with births() as born:
        inside = nn.Linear(1, 1)
    assert nn.Module.__init__ is original
    outside = nn.Linear(1, 1)
    assert list(born.of(nn.Sequential(inside, outside))) == ["0"]


def test_a_point_in_code_without_source_has_a_line_and_no_text_is_needed() -> None:
    namespace: dict[str, object] = {"sys": sys}
    exec(compile(textwrap.dedent("def here():\n    return sys._getframe(0)\n"), "/nowhere/gone.py", "exec"), namespace)
    frame = namespace["here"]()  # type: ignore[operator]
    place = locate((frame.f_code, frame.f_lasti))
    assert place is not None
    assert (place.file, place.line) == ("/nowhere/gone.py", 2)


def test_generated_code_and_torch_are_nobodys_place() -> None:
    assert [rank("<string>"), rank(torch.__file__), rank(gct.__file__), rank(__file__)] == [2, 2, 2, 0]
    assert locate(None) is None
    assert caller(None) is None


def test_a_path_is_shown_relative_below_the_current_folder_and_absolute_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(str(tmp_path / "sub" / "model.py")) == str(Path("sub") / "model.py")
    assert display_path("/elsewhere/model.py") == "/elsewhere/model.py"
