"""`bias=False` where the new norms make a bias void, in the source and in the graph alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from projects import planned, project
from torch import nn

from gradcheck_tool.capturing import capture
from gradcheck_tool.remedy.bias import drop_biases, void_biases
from gradcheck_tool.remedy.patch.proposing import keeps_bias, propose
from gradcheck_tool.remedy.rewrite import insert

HEAD = "import torch\nfrom torch import nn\n\n\n"
ATTRIBUTES = """class Net(nn.Module):
    def __init__(self, h=8):
        super().__init__()
        self.fc1 = nn.Linear(4, h{0})
        self.fc2 = nn.Linear(h, h, {1})
        self.fc3 = nn.Linear(in_features=h, out_features=h{2})
        self.fc4 = nn.Linear(
            h,
            h,{3}
        )
        self.head = nn.Linear(h, 2)

    def forward(self, x):
        for fc in (self.fc1, self.fc2, self.fc3, self.fc4):
            x = torch.relu(fc(x))
        return self.head(x)


example_inputs = torch.randn(8, 4)
"""
CONVOLUTIONS = """model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(),
    nn.Conv2d(4, 4, 3, 1, 1, 1, 1, {0}), nn.ReLU(),
    nn.ConvTranspose2d(4, 4, 3{1}), nn.ReLU(),
    nn.Conv2d(4, 4, 3, bias={2}), nn.ReLU(),
    nn.Conv2d(4, 1, 3),
)
example_inputs = torch.randn(4, 1, 12, 12)
"""
LIST = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4{0}) for _ in range(5)])
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


example_inputs = torch.randn(8, 4)
"""


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        pytest.param(ATTRIBUTES, ("", "True", "", ""), (", bias=False", "False", ", bias=False", ""), id="attributes"),
        pytest.param(LIST, ("",), (", bias=False",), id="a list"),
        pytest.param(LIST, (", bias=not False",), (", bias=False",), id="an expression"),
    ],
)
def test_the_source_turns_the_bias_off(
    template: str, before: tuple[str, ...], after: tuple[str, ...], tmp_path: Path
) -> None:
    text = patched(HEAD + template.format(*before), tmp_path)
    for line in (HEAD + template.format(*after)).splitlines():
        if "nn.Linear(" in line and line.rstrip().endswith(")"):
            assert line.strip() in text


def test_convolutions_lose_theirs_by_position_and_by_name(tmp_path: Path) -> None:
    text = patched(HEAD + CONVOLUTIONS.format("True", "", "True"), tmp_path)
    for layer in (
        "nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)",
        "nn.Conv2d(4, 4, 3, 1, 1, 1, 1, False), nn.BatchNorm2d(4)",
        "nn.ConvTranspose2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)",
        "nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)",
        "nn.Conv2d(4, 1, 3),\n",
    ):
        assert layer in text


SHARED = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for i in range(5):
            layers.append(nn.Linear(4, 4))
            if i < 4:
                layers.append(nn.ReLU())
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)


example_inputs = torch.randn(8, 4)
"""


def test_a_layer_made_where_others_need_their_bias_keeps_it(tmp_path: Path) -> None:
    files = {"model.py": (HEAD + SHARED).encode()}
    with project(files, tmp_path / "project") as loaded:
        subject, reading, plan = planned(loaded)
        void = void_biases(reading.structure, subject.model, plan)
        assert len(void) == 4
        kept = keeps_bias(subject.model, reading.structure, plan, subject.origins, void)
    assert kept.keys() == set(void)
    assert "made at the same place" in kept[void[0]]


def patched(text: str, folder: Path) -> str:
    """The source with norms and without void biases, which does what the graph without them does."""
    with project({"model.py": text.encode()}, folder / "project") as loaded:
        subject, reading, plan = planned(loaded)
        void = void_biases(reading.structure, subject.model, plan)
        assert not keeps_bias(subject.model, reading.structure, plan, subject.origins, void)
        proposal = next(propose(subject.model, reading.structure, plan, subject.origins, frozenset(void)))
        graph = drop_biases(insert(capture(subject.model, subject.inputs)[0], plan), void)
    (after,) = proposal.after.values()
    with project({"model.py": after}, folder / "after") as again:
        load_by_order(graph, again.model)
        for training in (True, False):
            expected = graph.train(training)(*subject.inputs.args)
            torch.testing.assert_close(again.model.train(training)(*subject.inputs.args), expected)
    return after.decode()


def load_by_order(old: nn.Module, new: nn.Module) -> None:
    """Gives `new` the weights of the layers of `old`, which come in the same order."""
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    pairs = [[module for module in model.modules() if isinstance(module, kinds)] for model in (old, new)]
    for mine, theirs in zip(*pairs, strict=True):
        theirs.load_state_dict(mine.state_dict())
