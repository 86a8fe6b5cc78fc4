"""Less dropout, written into the user's own source: where its number stands, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gradcheck_tool.remedy.base import Remedy
from gradcheck_tool.remedy.combination import Combination
from gradcheck_tool.remedy.dropout import LessDropout
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.reinitialize import Reinitialize

Changed = Callable[[str, Remedy], list[str]]
HEAD = "import torch\nfrom torch import nn\n\nRATE = 0.5\n\n\n"
BLOCK = """class Block(nn.Module):
    def __init__(self, width, rate, slope=0.0):
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.drop = nn.Dropout(rate)

    def forward(self, x):
        return self.drop(torch.relu(self.fc(x)))


"""


def built(made: str, parameters: str = "width=16, depth=4") -> str:
    """A function that builds four blocks, each with what `made` makes."""
    return f"""{HEAD}{BLOCK}def build_model({parameters}):
    layers = []
    for _ in range(depth):
        layers += [{made}]
    return nn.Sequential(*layers, nn.Linear(width, 3))
"""


MADE = "nn.Linear(width, width), nn.LeakyReLU(), "
CASES = {
    "a number": (built(MADE + "nn.Dropout(0.5)"), "[nn.Linear(width, width), nn.LeakyReLU(), nn.Dropout(0.026)]"),
    "a keyword": (
        built(MADE + "nn.Dropout(inplace=True, p=0.5)"),
        "[nn.Linear(width, width), nn.LeakyReLU(), nn.Dropout(inplace=True, p=0.026)]",
    ),
    "no number": (built(MADE + "nn.Dropout()"), "[nn.Linear(width, width), nn.LeakyReLU(), nn.Dropout(0.026)]"),
    "no number, before another argument": (
        built(MADE + "nn.Dropout(inplace=True)"),
        "[nn.Linear(width, width), nn.LeakyReLU(), nn.Dropout(0.026, inplace=True)]",
    ),
    "a parameter": (
        built(MADE + "nn.Dropout(p)", "width=16, depth=4, p=0.5"),
        "def build_model(width=16, depth=4, p=0.026):",
    ),
    "a constant": (built(MADE + "nn.Dropout(RATE)"), "RATE = 0.026"),
    "an argument of a block": (built("Block(width, 0.5)"), "[Block(width, 0.026)]"),
    "an argument of a block by keyword": (built("Block(width, rate=0.5)"), "[Block(width, rate=0.026)]"),
    "a parameter, passed on to a block": (
        built("Block(width, p, slope=0.1)", "width=16, depth=4, *, p=0.5"),
        "def build_model(width=16, depth=4, *, p=0.026):",
    ),
}


@pytest.mark.parametrize(("source", "line"), CASES.values(), ids=CASES)
def test_the_number_changes_where_it_is_given(source: str, line: str, changed: Changed) -> None:
    removed, added = changed(source, LessDropout())
    assert added.endswith(line)
    assert removed[1:] == added[1:].replace("0.026", "0.5") or "nn.Dropout(" in line


def test_new_weights_follow(changed: Changed) -> None:
    lines = changed(built(MADE + "nn.Dropout(0.5)"), Combination((LessDropout(), Reinitialize())))
    assert any(line.startswith("+") and "nn.Dropout(0.026)" in line for line in lines)
    assert any("nn.init.orthogonal_" in line for line in lines)


REFUSED = {
    "computed": (built(MADE + "nn.Dropout(1 / depth)"), "the probability of 2 is computed (1 / depth)"),
    "a variable of the function": (
        built(MADE + "nn.Dropout(p)").replace("    layers = []\n", "    layers, p = [], 0.5\n"),
        "where the probability of 2 gets its value is not in sight (p)",
    ),
    "starred": (built(MADE + "nn.Dropout(*[0.5])"), "the probability of 2 is in no argument of its own"),
    "made through a name": (
        built(MADE + "Drop(0.5)").replace("RATE = 0.5", "Drop = nn.Dropout"),
        "2 is not made by its name in your files",
    ),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_in_sight_is_refused(source: str, reason: str, changed: Changed) -> None:
    with pytest.raises(Refused) as refusal:
        changed(source, LessDropout())
    assert str(refusal.value) == reason
