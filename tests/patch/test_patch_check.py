"""A patched source is shown only if it builds the old model with the planned norms, and does what the graph does.

Everything here runs in this process; test_patch_verify.py has the process that does it for the command line.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from gradcheck_tool import auditing
from gradcheck_tool.capturing import capture
from gradcheck_tool.measuring import measurable
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.bias import drop_biases, void_biases
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.remedy.patch import handover
from gradcheck_tool.remedy.patch.expectation import Expected, check, expect
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.rewrite import insert
from gradcheck_tool.target import Subject, load_model, load_subject, materialize
from gradcheck_tool.target.overlay import overlaid

NET = """
import random
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 8)
        self.fc2 = nn.Linear(8, 8)
        self.fc3 = nn.Linear(8, 8)
        self.fc4 = nn.Linear(8, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        x = 1.0 * x
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        x = torch.tanh(self.fc3(x))
        x = torch.tanh(self.fc4(x))
        return self.out(x)

example_inputs = torch.randn(16, 8)
"""

Edits = Mapping[str, str]
WIDTHS = (8, 8, 8, 6)
MADE: Edits = {
    f"self.fc{i} = nn.Linear(8, {w})\n": f"self.fc{i} = nn.Linear(8, {w})\n        self.bn{i} = nn.BatchNorm1d({w})\n"
    for i, w in enumerate(WIDTHS, 1)
}
CALLED: Edits = {f"(self.fc{i}(x))": f"(self.bn{i}(self.fc{i}(x)))" for i in range(1, 5)}
PATCH: Edits = {**MADE, **CALLED}

SEQUENTIAL = """
import torch
from torch import nn

model = nn.Sequential(
    nn.Linear(8, 8), nn.Tanh(),
    nn.Linear(8, 8), nn.Tanh(),
    nn.Linear(8, 8), nn.Tanh(),
    nn.Linear(8, 8), nn.Tanh(),
    nn.Linear(8, 2),
)
example_inputs = torch.randn(16, 8)
"""
BETWEEN: Edits = {"nn.Linear(8, 8), nn.Tanh()": "nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh()"}


def edited(text: str, edits: Edits) -> str:
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Bench:
    """A model in a file, and what its patch has to do."""

    def __init__(self, folder: Path, text: str, drop_bias: bool = False) -> None:
        self.file = folder / "model_of_check_tests.py"
        self.file.write_text(textwrap.dedent(text), encoding="utf-8")
        self.subject: Subject = measurable(load_subject(str(self.file)), 0, always=True)
        model, inputs = self.subject.model, self.subject.inputs
        reading = auditing.read(model, inputs)
        plan = insertions_of(InsertNorm().plan(Case(model, inputs, reading.structure)))
        self.fixed = insert(capture(model, inputs)[0], plan)
        if drop_bias:
            self.fixed = drop_biases(self.fixed, void_biases(reading.structure, model, plan))
        self.expected: Expected = expect(model, inputs, self.fixed)

    def check(self, patched: str, expected: Expected | None = None) -> Mapping[str, str]:
        """Checks this source as it would be in the place of the file's."""

        def build() -> nn.Module:
            model = load_model(str(self.file), timeout=0)
            materialize(model, self.subject.inputs)
            return model

        with overlaid({self.file: textwrap.dedent(patched).encode()}):
            return check(build, expected or self.expected).renamed


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "model_of_check_tests" in name:
            del sys.modules[name]


# what is right

RENAMED_BETWEEN = {f"{2 * at}.{leaf}": f"{3 * at}.{leaf}" for at in range(1, 5) for leaf in ("weight", "bias")}
WRAPPED = {
    f"self.fc{i} = nn.Linear(8, {w})": f"self.fc{i} = nn.Sequential(nn.Linear(8, {w}), nn.BatchNorm1d({w}))"
    for i, w in enumerate(WIDTHS, 1)
}
RENAMED_WRAPPED = {f"fc{i}.{leaf}": f"fc{i}.0.{leaf}" for i in range(1, 5) for leaf in ("weight", "bias")}
IN_A_LIST = {
    "self.out =": "self.norms = nn.ModuleList([nn.BatchNorm1d(w) for w in (8, 8, 8, 6)])\n        self.out =",
    **{f"(self.fc{i}(x))": f"(self.norms[{i - 1}](self.fc{i}(x)))" for i in range(1, 5)},
}
MADE_FIRST = {
    "        self.fc1 =": """        self.bn1, self.bn2, self.bn3, self.bn4 = map(nn.BatchNorm1d, (8, 8, 8, 6))
        self.fc1 =""",
    **CALLED,
}
OUT = "self.out = nn.Linear(6, 2)"
AFTER_OUT = f"{OUT}\n        "
INITIALIZED = """for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.weight, 1.0, 0.5)"""
OUTPUTS = "return {'logits': self.out(x), 'classes': self.out(x).argmax(1), 'more': [x, None, 'x']}"
EXTRA_STATE = """return self.out(x)

    def get_extra_state(self):
        return {'version': object}

    def set_extra_state(self, state):
        pass
"""

RIGHT = {
    "attributes": ({}, PATCH, {}),
    "a list of norms": ({}, IN_A_LIST, {}),
    "norms that come before the layers": ({}, MADE_FIRST, {}),
    "norms that are wrapped with their layers": ({}, WRAPPED, RENAMED_WRAPPED),
    "norms that the model's own initialization reaches": ({OUT: AFTER_OUT + INITIALIZED}, PATCH, {}),
    "a norm of the same size that was there": (
        {"self.fc2 = nn": "self.norm = nn.BatchNorm1d(8)\n        self.fc2 = nn", "1.0 * x": "self.norm(x)"},
        PATCH,
        {},
    ),
    "dropout, which draws the same numbers": (
        {"torch.tanh(self.fc2(x))": "nn.functional.dropout(torch.tanh(self.fc2(x)), 0.5, self.training)"},
        PATCH,
        {},
    ),
    "lazy layers": (
        {"nn.Linear(8, ": "nn.LazyLinear("},
        {
            old.replace("Linear(8, ", "LazyLinear("): new.replace("Linear(8, ", "LazyLinear(")
            for old, new in PATCH.items()
        },
        {},
    ),
    "outputs of all kinds": ({"return self.out(x)": OUTPUTS}, PATCH, {}),
    "outputs that are not finite": ({"torch.tanh(self.fc4(x))": "torch.tanh(self.fc4(x)).log()"}, PATCH, {}),
    "double precision": (
        {OUT: AFTER_OUT + "self.double()", "randn(16, 8)": "randn(16, 8, dtype=torch.float64)"},
        PATCH,
        {},
    ),
    "half precision": (
        {OUT: AFTER_OUT + "self.bfloat16()", "randn(16, 8)": "randn(16, 8, dtype=torch.bfloat16)"},
        PATCH,
        {},
    ),
    "tied weights": ({OUT: AFTER_OUT + "self.fc3.weight = self.fc2.weight"}, PATCH, {}),
    "frozen weights": ({OUT: AFTER_OUT + "self.fc1.requires_grad_(False)"}, PATCH, {}),
    "state that is no tensor": ({"return self.out(x)": EXTRA_STATE}, PATCH, {}),
    "a single sample, which is doubled": ({"randn(16, 8)": "randn(1, 8)"}, PATCH, {}),
    "a batch that is always the same": ({"1.0 * x": "x.view(16, 8)"}, PATCH, {}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_accepted_is_a_patch_with(name: str, tmp_path: Path) -> None:
    changes, patch, renamed = RIGHT[name]
    net = edited(NET, changes)
    assert Bench(tmp_path, net).check(edited(net, patch)) == renamed


def test_what_is_shifted_in_a_sequential_is_renamed(tmp_path: Path) -> None:
    assert Bench(tmp_path, SEQUENTIAL).check(edited(SEQUENTIAL, BETWEEN)) == RENAMED_BETWEEN


def test_biases_that_the_graph_has_not_are_not_missed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NET, drop_bias=True)
    assert bench.expected.dropped == tuple(f"fc{i}.bias" for i in range(1, 5))
    without = {
        f"self.fc{i} = nn.Linear(8, {w}": f"self.fc{i} = nn.Linear(8, {w}, bias=False" for i, w in enumerate(WIDTHS, 1)
    }
    assert bench.check(edited(edited(NET, PATCH), without)) == {}
    with pytest.raises(Refused, match=r"the patch leaves fc1\.bias where it was to be dropped"):
        bench.check(edited(NET, PATCH))


# what is wrong

WRONG: dict[str, tuple[Edits, Edits, str]] = {
    "nothing changed": ({}, {}, "inserts 0 BatchNorm1d(8) where 3 are planned"),
    "one norm missing": (
        {},
        {key: new for key, new in PATCH.items() if "fc4" not in key},
        "inserts 0 BatchNorm1d(6) where 1 are planned",
    ),
    "one norm too many": (
        {},
        {**PATCH, OUT: AFTER_OUT + "self.more = nn.BatchNorm1d(6)"},
        "inserts 2 BatchNorm1d(6) where 1",
    ),
    "a norm of another kind": (
        {},
        {**PATCH, OUT: AFTER_OUT + "self.more = nn.LayerNorm(6)"},
        "more.weight, which is neither",
    ),
    "a norm with other settings": (
        {},
        {**PATCH, "self.out =": "self.bn4.momentum = 0.5\n        self.out ="},
        "has bn4 (weight 6",
    ),
    "a parameter more": (
        {},
        {**PATCH, OUT: AFTER_OUT + "self.scale = nn.Parameter(torch.ones(3))"},
        "has its own parameters (scale 3)",
    ),
    "a module more": ({}, {**PATCH, OUT: AFTER_OUT + "self.act = nn.ReLU()"}, "1 modules ReLU, where 0"),
    "a layer lost": (
        {},
        {**PATCH, "        self.fc3 = nn.Linear(8, 8)\n": "", "self.fc3(x)": "self.fc2(x)"},
        "where the old one has fc3",
    ),
    "a layer of another size": (
        {},
        {**PATCH, "nn.Linear(8, 6)": "nn.Linear(8, 6, bias=False)"},
        "has fc4 (weight 6x8), not planned",
    ),
    "source that cannot be parsed": ({}, {"return self.out(x)": "return self.out(x"}, "does not load: "),
    "a constructor that raises": (
        {},
        {**PATCH, OUT: AFTER_OUT + "raise ValueError('no such thing')"},
        "raised ValueError: no such thing",
    ),
    "a forward that raises": (
        {},
        {**PATCH, "return self.out(x)": "return self.out(x) + undefined"},
        "NameError: name 'undefined' is not defined",
    ),
    "norms behind the activation": (
        {},
        {**MADE, **{f"torch.tanh(self.fc{i}(x))": f"self.bn{i}(torch.tanh(self.fc{i}(x)))" for i in range(1, 5)}},
        "in training, on 16x8, the patched model's output is not that of the fixed graph",
    ),
    "one norm for all": (
        {},
        {
            **MADE,
            **{f"(self.fc{i}(x))": f"(self.bn1(self.fc{i}(x)))" for i in range(1, 4)},
            "(self.fc4(x))": "(self.bn4(self.fc4(x)))",
        },
        "the new norms of the patched model see other values than planned, on 16x8",
    ),
    "a norm that is called twice": (
        {},
        {**PATCH, "1.0 * x": "self.bn1(x) - self.bn1(x) + x"},
        "calls the new norms 6 times in a pass, not 4",
    ),
    "norms in training alone": (
        {},
        {
            **MADE,
            **{
                f"(self.fc{i}(x))": f"((self.bn{i} if self.training else nn.Identity())(self.fc{i}(x)))"
                for i in range(1, 5)
            },
        },
        "in evaluation, on 16x8, the patched model's output is not that",
    ),
    "norms for large batches alone": (
        {},
        {
            **MADE,
            **{
                f"(self.fc{i}(x))": f"((self.bn{i} if len(x) > 9 else nn.Identity())(self.fc{i}(x)))"
                for i in range(1, 5)
            },
        },
        "in training, on 8x8, the patched model's output is not that",
    ),
    "one batch size alone": ({}, {**PATCH, "1.0 * x": "x.view(16, 8)"}, "does not run: "),
    "the gradient cut off": (
        {},
        {**PATCH, "(self.bn2(self.fc2(x)))": "(self.bn2(self.fc2(x.detach())))"},
        "the gradient of fc1.weight in the patched model has the norm 0, not",
    ),
    "an output more": ({}, {**PATCH, "return self.out(x)": "return self.out(x), x"}, "returns 2 tensors, not 1"),
    "outputs of another shape": (
        {},
        {**PATCH, "return self.out(x)": "return self.out(x)[None]"},
        "returns 1x16x2 float32, not 16x2 float32",
    ),
    "outputs of another dtype": (
        {},
        {**PATCH, "return self.out(x)": "return self.out(x).double()"},
        "returns 16x2 float64, not",
    ),
    "layers in another order": (
        {},
        {
            **PATCH,
            "self.fc1 = nn": "self.fc0 = nn",
            "self.fc2 = nn": "self.fc1 = nn",
            "self.fc0 = nn": "self.fc2 = nn",
        },
        "the patched model",
    ),
    "an old norm that is called twice": (
        {"self.fc2 = nn": "self.norm = nn.BatchNorm1d(8)\n        self.fc2 = nn", "1.0 * x": "self.norm(x)"},
        {**PATCH, "self.norm(x)": "self.norm(x) + 0 * self.norm(x)"},
        "the patched model leaves another norm.running_mean after training on 16x8",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_with_its_reason_is_a_patch_with(name: str, tmp_path: Path) -> None:
    changes, patch, reason = WRONG[name]
    net = edited(NET, changes)
    bench = Bench(tmp_path, net)
    with pytest.raises(Refused) as caught:
        bench.check(edited(net, patch))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# what is handed over


def test_the_model_and_the_graph_are_left_as_they_were(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NET)
    state = {key: value.clone() for key, value in bench.fixed.state_dict().items()}
    random = torch.get_rng_state()
    expect(bench.subject.model, bench.subject.inputs, bench.fixed)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in bench.fixed.state_dict().items())
    assert all(parameter.grad is None for parameter in bench.fixed.parameters())
    assert {norm.momentum for norm in bench.fixed.modules() if isinstance(norm, nn.BatchNorm1d)} == {0.1}


def test_another_batch_size_is_tried_where_the_model_takes_one(tmp_path: Path) -> None:
    sizes = [len(inputs.args[0]) for inputs, _ in Bench(tmp_path, NET).expected.runs]
    assert sizes == [16, 8]


def test_what_is_expected_survives_the_way_through_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path, edited(NET, {"return self.out(x)": EXTRA_STATE}))
    handover.save(bench.expected, tmp_path)
    loaded = handover.load(tmp_path, lambda: pytest.fail("the inputs are plain"))
    assert bench.check(edited(edited(NET, {"return self.out(x)": EXTRA_STATE}), PATCH), loaded) == {}


def test_a_model_without_weights_is_built_and_paired_and_not_run(tmp_path: Path) -> None:
    without = edited(
        SEQUENTIAL, {"randn(16, 8)": "randn(16, 8, device='meta')", "\nexample": "\nmodel.to('meta')\nexample"}
    )
    bench = Bench(tmp_path, without)
    assert not bench.expected.runs
    assert bench.check(edited(without, BETWEEN)) == RENAMED_BETWEEN
