"""Shortcuts, written into the user's own source: where they stand in each style, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gradcheck_tool.inputs import Inputs
from gradcheck_tool.remedy.base import Remedy
from gradcheck_tool.remedy.combination import Combination
from gradcheck_tool.remedy.patch.expectation import check, expect
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.remedy.shortcuts import AddShortcuts

Changed = Callable[[str, Remedy], list[str]]
HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"
FACTOR = "nn.Parameter(torch.zeros(()))"
CLASS = [
    "+class Shortcut(nn.Sequential):",
    '+    """x + scale * block(x). The scale starts at zero, so that the block starts as the identity."""',
    "+",
    "+    def __init__(self, *block):",
    "+        super().__init__(*block)",
    f"+        self.scale = {FACTOR}",
    "+",
    "+    def forward(self, x):",
    "+        return x + self.scale * super().forward(x)",
    "+",
    "+",
]


def net(init: str, forward: str, before: str = "") -> str:
    """A class of those lines, with a head."""
    return f"""{HEAD}{before}class Net(nn.Module):
    def __init__(self, width=16, depth=5):
        super().__init__()
{init}
        self.out = nn.Linear(width, 4)

    def forward(self, x):
{forward}
        return self.out(x)
"""


def factory(*lines: str) -> str:
    """A function that returns a Sequential of `layers`, which those lines make."""
    body = "\n".join(f"    {line}" for line in lines)
    last = "    return nn.Sequential(*layers, nn.Linear(16, 4))\n"
    return f"{HEAD}def build_model(dims=(20, 16, 16, 16, 16, 16)):\n{body}\n{last}"


LIST = "        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])"
SCALES = [
    "+        self.scales = nn.ParameterList(",
    f"+            [{FACTOR} for _ in self.layers]",
    "+        )",
]
BLOCK = """class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return F.gelu(self.fc(x))


"""
BLOCKS = "        self.net = nn.Sequential(*[Block(width) for _ in range(depth)])"
SIZES = """        dims = (20, 16, 16, 16, 16, 16)
        self.fcs = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])"""
CASES = {
    "a loop over a list": (
        net(LIST, "        for layer in self.layers:\n            x = torch.tanh(layer(x))"),
        [
            *SCALES,
            "-        for layer in self.layers:",
            "-            x = torch.tanh(layer(x))",
            "+        for layer, scale in zip(self.layers, self.scales):",
            "+            x = x + scale * torch.tanh(layer(x))",
        ],
    ),
    "a block of several lines, which write over what it reads": (
        net(
            LIST, "        for i, layer in enumerate(self.layers):\n            x = layer(x)\n            x = x.tanh()"
        ),
        [
            *SCALES,
            "+            shortcut = x",
            "-            x = x.tanh()",
            "+            x = shortcut + self.scales[i] * x.tanh()",
        ],
    ),
    "two statements on a line": (
        net(
            "\n".join(f"        self.fc{i} = nn.Linear(width, width)" for i in (1, 2)),
            "        x = self.fc1(x)\n        x = x.relu(); x = self.fc2(x)\n        x = x.relu()",
        ),
        [
            f"+        self.scale1 = {FACTOR}",
            f"+        self.scale2 = {FACTOR}",
            "+        shortcut = x",
            "-        x = x.relu(); x = self.fc2(x)",
            "-        x = x.relu()",
            "+        x = shortcut + self.scale1 * x.relu(); shortcut = x; x = self.fc2(x)",
            "+        x = shortcut + self.scale2 * x.relu()",
        ],
    ),
    "a gate, which is no call": (
        net(
            f"{LIST}\n{LIST.replace('layers', 'gates')}",
            """        for layer, gate in zip(self.layers, self.gates):
            x = torch.sigmoid(gate(x)) * layer(x)""",
        ),
        [
            *(line.replace("self.layers", "self.gates") for line in SCALES),
            "-        for layer, gate in zip(self.layers, self.gates):",
            "-            x = torch.sigmoid(gate(x)) * layer(x)",
            "+        for layer, gate, scale in zip(self.layers, self.gates, self.scales):",
            "+            x = x + scale * (torch.sigmoid(gate(x)) * layer(x))",
        ],
    ),
    "a dict of layers": (
        net(
            "        self.layers = nn.ModuleDict({f'l{i}': nn.Linear(width, width) for i in range(depth)})",
            "        for name, layer in self.layers.items():\n            x = torch.tanh(layer(x))",
        ),
        [
            "+        self.scales = nn.ParameterDict(",
            f"+            {{name: {FACTOR} for name in self.layers}}",
            "+        )",
            "-            x = torch.tanh(layer(x))",
            "+            x = x + self.scales[name] * torch.tanh(layer(x))",
        ],
    ),
    "a list in which some change the size": (
        net(SIZES, "        for fc in self.fcs:\n            x = fc(x).relu()"),
        [
            "+        self.scales = nn.ParameterList([",
            f"+            {FACTOR} if layer.in_features == layer.out_features else None",
            "+            for layer in self.fcs",
            "+        ])",
            "-        for fc in self.fcs:",
            "-            x = fc(x).relu()",
            "+        for fc, scale in zip(self.fcs, self.scales):",
            "+            block = fc(x).relu()",
            "+            x = block if scale is None else x + scale * block",
        ],
    ),
    "the last layer of a list without an activation": (
        net(
            SIZES.replace("16)\n", "16, 10)\n"),
            """        for i, fc in enumerate(self.fcs):
            x = fc(x)
            if i < len(self.fcs) - 1:
                x = x.relu()
        return x""",
        ),
        [
            "+        self.scales = nn.ParameterList([",
            f"+            {FACTOR} if layer.in_features == layer.out_features else None",
            "+            for layer in self.fcs",
            "+        ])",
            "+            shortcut = x",
            "-                x = x.relu()",
            "+                block = x.relu()",
            "+                x = block if self.scales[i] is None else shortcut + self.scales[i] * block",
        ],
    ),
    "attributes": (
        net(
            "\n".join(f"        self.fc{i} = nn.Linear(width, width)" for i in range(1, 5)),
            """        h = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(h))
        x = F.dropout(F.relu(self.fc3(x)), 0.1, self.training)
        x = (F.relu(self.fc4(x)) if True else x)""",
        ),
        [
            *(f"+        self.scale{i} = {FACTOR}" for i in range(1, 5)),
            "-        h = F.relu(self.fc1(x.flatten(1)))",
            "-        x = F.relu(self.fc2(h))",
            "-        x = F.dropout(F.relu(self.fc3(x)), 0.1, self.training)",
            "-        x = (F.relu(self.fc4(x)) if True else x)",
            "+        shortcut = x.flatten(1)",
            "+        h = shortcut + self.scale1 * F.relu(self.fc1(shortcut))",
            "+        x = h + self.scale2 * F.relu(self.fc2(h))",
            "+        x = x + self.scale3 * F.dropout(F.relu(self.fc3(x)), 0.1, self.training)",
            "+        x = ((x + self.scale4 * F.relu(self.fc4(x))) if True else x)",
        ],
    ),
    "blocks of a class of their own": (
        net(BLOCKS, "        x = self.net(x)", BLOCK),
        [
            f"+        self.scale = {FACTOR}",
            "-        return F.gelu(self.fc(x))",
            "+        return x + self.scale * F.gelu(self.fc(x))",
        ],
    ),
    "a Sequential that a loop fills": (
        factory(
            "layers = [nn.Linear(20, 16), nn.ReLU()]",
            "for _ in range(5):",
            "    layers += [nn.Linear(16, 16), nn.ReLU()]",
        ),
        [
            *CLASS,
            "-        layers += [nn.Linear(16, 16), nn.ReLU()]",
            "+        layers += [Shortcut(nn.Linear(16, 16), nn.ReLU())]",
        ],
    ),
    "a Sequential in which some change the size": (
        factory("layers = []", "for a, b in zip(dims, dims[1:]):", "    layers += [nn.Linear(a, b), nn.ReLU()]"),
        [
            *CLASS,
            "-        layers += [nn.Linear(a, b), nn.ReLU()]",
            "+        block = Shortcut if a == b else nn.Sequential",
            "+        layers += [block(nn.Linear(a, b), nn.ReLU())]",
        ],
    ),
    "a comprehension over tuples": (
        factory("layers = [m for _ in range(5) for m in (nn.Linear(16, 16), nn.ReLU())]"),
        [
            *CLASS,
            "-    layers = [m for _ in range(5) for m in (nn.Linear(16, 16), nn.ReLU())]",
            "+    layers = [m for _ in range(5) for m in (Shortcut(nn.Linear(16, 16), nn.ReLU()),)]",
        ],
    ),
    "statements, and one activation for all": (
        factory(
            "layers = []",
            "act = nn.Tanh()",
            "for _ in range(5):",
            "    layers.append(nn.Linear(16, 16))",
            "    layers.append(act)",
        ),
        [
            *CLASS[-2:],  # as difflib has it
            *CLASS[:-2],
            "-        layers.append(nn.Linear(16, 16))",
            "-        layers.append(act)",
            "+        layers.append(Shortcut(nn.Linear(16, 16), act))",
        ],
    ),
    "elements with names": (
        """from collections import OrderedDict
from torch.nn import Linear, ReLU, Sequential

model = Sequential(OrderedDict([
    ("fc1", Linear(16, 16)), ("act1", ReLU()),
    ("fc2", Linear(16, 16)), ("act2", ReLU()),
    ("out", Linear(16, 4)),
]))
""",
        [
            "-from torch.nn import Linear, ReLU, Sequential",
            "+import torch",
            "+from torch.nn import Linear, Parameter, ReLU, Sequential",
            "+",
            "+",
            *(line.replace("nn.", "") for line in CLASS[:-2]),
            "+",
            '-    ("fc1", Linear(16, 16)), ("act1", ReLU()),',
            '-    ("fc2", Linear(16, 16)), ("act2", ReLU()),',
            '+    ("fc1", Shortcut(Linear(16, 16), ReLU())),',
            '+    ("fc2", Shortcut(Linear(16, 16), ReLU())),',
        ],
    ),
}


@pytest.mark.parametrize(("source", "lines"), CASES.values(), ids=CASES)
def test_the_shortcuts_stand_where_a_colleague_would_write_them(
    source: str, lines: list[str], changed: Changed
) -> None:
    assert changed(source, AddShortcuts()) == lines


def test_an_element_on_lines_of_its_own_stays_there(changed: Changed) -> None:
    source = (
        HEAD
        + """model = nn.Sequential(
    nn.Linear(16, 16),  # wide
    nn.ReLU(),
    nn.Linear(16, 16),
    nn.ReLU(),
    nn.Linear(16, 4),
)
"""
    )
    assert [line for line in changed(source, AddShortcuts()) if line not in CLASS] == [
        "-    nn.Linear(16, 16),  # wide",
        "-    nn.ReLU(),",
        "-    nn.Linear(16, 16),",
        "-    nn.ReLU(),",
        "+    Shortcut(",
        "+        nn.Linear(16, 16),  # wide",
        "+        nn.ReLU(),",
        "+    ),",
        "+    Shortcut(nn.Linear(16, 16), nn.ReLU()),",
    ]


def test_new_weights_and_shortcuts_are_written_one_after_the_other(changed: Changed) -> None:
    lines = changed(net(BLOCKS, "        x = self.net(x)", BLOCK), Combination((Reinitialize(), AddShortcuts())))
    assert f"+        self.scale = {FACTOR}" in lines
    assert any("nn.init.orthogonal_" in line for line in lines)


REFUSED = {
    "calls within a call": (
        net(
            "\n".join(f"        self.fc{i} = nn.Linear(width, width)" for i in (1, 2)),
            "        x = F.relu(self.fc2(F.relu(self.fc1(x))))",
        ),
        "what fc2 reads is computed where it is called",
    ),
    "one layer, called again": (
        net(
            "        self.fc = nn.Linear(width, width)",
            "        for _ in range(3):\n            x = F.relu(self.fc(x))",
        ),
        "fc is called several times, and each call needs a factor of its own",
    ),
    "a Sequential that is called twice": (
        net(
            "        self.body = nn.Sequential(nn.Linear(width, width), nn.Tanh())",
            "        x = self.body(self.body(x))",
        ),
        r"body.0 is called several times, and each call needs a factor of its own",
    ),
    "a loop within": (
        net(
            LIST,
            """        for layer in self.layers:
            x = layer(x)
            for _ in range(1):
                x = x.tanh()""",
        ),
        "forward does not come from the beginning of the block of layers.0 to its end in one go",
    ),
    "a bare weight": (
        net(
            "        self.w = nn.ParameterList([nn.Parameter(torch.randn(16, 16) / 4) for _ in range(depth)])",
            "        for w in self.w:\n            x = torch.tanh(x @ w)",
        ),
        "is a bare parameter",
    ),
    "an activation in another function": (
        net(
            LIST + "\n        self.act = Act()",
            "        for layer in self.layers:\n            x = self.act(layer(x))",
            "class Act(nn.Module):\n    def forward(self, x):\n        return torch.tanh(x)\n\n\n",
        ),
        "ends in another function than it begins in",
    ),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_natural_is_refused(source: str, reason: str, changed: Changed) -> None:
    with pytest.raises(Refused, match=reason):
        changed(source, AddShortcuts())


class Around(nn.Module):
    """Two blocks with shortcuts, which may be wrong in some way."""

    def __init__(self, start: float = 0.0, factors: int = 2, shared: bool = False, swapped: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.out = nn.Linear(6, 3)
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(start)) for _ in range(factors))
        self.shared, self.swapped = shared, swapped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.layers):
            if len(self.scales) == 0:
                x = torch.tanh(layer(x))
            else:
                scale = self.scales[0 if self.shared else i]
                y = torch.tanh(layer(x))
                x = y + scale * x if self.swapped else x + scale * y
        return self.out(x)


def test_the_check_finds_what_is_wrong() -> None:
    plain, right, x = Around(factors=0), Around(), Inputs((torch.randn(8, 6),))
    expected = expect(plain, x, right)
    assert expected.factors == 2
    assert list(check(Around, expected).factors) == ["scales.0", "scales.1"]
    for wrong, reason in (
        (Around(start=0.5), "does not start at zero"),
        (Around(factors=3), "makes 3 factors where 2 are planned"),
        (Around(shared=True), "get other gradients than planned"),
        (Around(swapped=True), "is not that of the fixed graph"),
    ):
        with pytest.raises(Refused, match=reason):
            check(lambda wrong=wrong: wrong, expected)
    assert all(not bool(scale.detach()) for scale in right.scales), "what was compared is left as it was"
