"""The rules: what each finds, how bad it calls it, and where; and the examples in their own docstrings, executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import Net, findings, linears, stack
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.rules import Rule, all_rules, find_rule, parse_codes
from gradcheck_tool.rules.gt001_unnormalized_chain import severity_of
from gradcheck_tool.target import load_subject
from gradcheck_tool.tasks import audit_subject

X = torch.randn(4, 8)
RULES = [pytest.param(rule, id=rule.code) for rule in all_rules()]


# --- The docstrings -------------------------------------------------------------------------------------------------


def snippet(rule: Rule, title: str) -> str:
    """The indented code under a title of a rule's explanation."""
    lines = rule.explanation.split(f"**{title}**\n")[1].splitlines()
    end = next((at for at, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return "\n".join(line[4:] for line in lines[:end])


def model_of(rule: Rule, title: str) -> nn.Module:
    space: dict[str, Any] = {}
    exec(compile(snippet(rule, title), f"<{rule.code}, {title}>", "exec"), space)
    model = space["model"]
    assert isinstance(model, nn.Module)
    return model


@pytest.mark.parametrize("rule", RULES)
def test_the_example_of_a_rule_triggers_it(rule: Rule) -> None:
    assert [f.rule for f in gct.audit(model_of(rule, "Example")).findings] == [rule.code]


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_says_to_use_instead_triggers_nothing(rule: Rule) -> None:
    assert gct.audit(model_of(rule, "Use instead")).findings == ()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_explains_itself_in_the_same_sections(rule: Rule) -> None:
    titles = [line.strip("*") for line in rule.explanation.splitlines() if line.startswith("**")]
    assert titles[:2] == ["What it does", "Why is this bad"]
    assert {"Example", "Use instead"} <= set(titles)
    assert rule.summary.endswith(".")


@pytest.mark.parametrize("word", ["GT001", "gt001", "unnormalized-chain", " GT001 "])
def test_a_rule_is_found_by_code_or_name(word: str) -> None:
    assert find_rule(word).code == "GT001"


def test_an_unknown_rule_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(GradtoolError, match="there is no rule unnormalised-chain") as caught:
        find_rule("unnormalised-chain")
    assert caught.value.hint == "did you mean unnormalized-chain?"


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        pytest.param(["GT001,GT003"], ("GT001", "GT003"), id="separated by commas"),
        pytest.param(["GT003", "GT001"], ("GT003", "GT001"), id="given one by one"),
        pytest.param(["GT0"], ("GT001", "GT002", "GT003", "GT004"), id="by a prefix"),
        pytest.param(["parameter-overwritten"], ("GT002",), id="by name"),
        pytest.param(["GT001,", ""], ("GT001",), id="with nothing between commas"),
    ],
)
def test_codes_are_read(words: list[str], codes: tuple[str, ...]) -> None:
    assert parse_codes(words) == codes


# --- GT001 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decades", "severity"),
    [
        (0.0, "note"),
        (0.99, "note"),
        (-0.99, "note"),
        (1.0, "warning"),
        (-2.99, "warning"),
        (3.0, "error"),
        (-3.0, "error"),
        (float("inf"), "error"),
        (float("-inf"), "error"),
        (None, "warning"),
        (float("nan"), "warning"),
    ],
)
def test_severity_goes_by_decades_either_way(decades: float | None, severity: str) -> None:
    assert severity_of(decades) == severity


def mlp(depth: int, activate: Callable[[Tensor], Tensor] = torch.sigmoid, width: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return stack(activate, depth, width)


@pytest.mark.parametrize(
    ("depth", "min_depth", "found"),
    [
        pytest.param(3, 4, 0, id="one block less"),
        pytest.param(4, 4, 1, id="as many blocks"),
        pytest.param(3, 2, 1, id="a lower threshold"),
        pytest.param(1, 1, 1, id="a single block"),
    ],
)
def test_a_chain_is_found_from_the_least_depth_on(depth: int, min_depth: int, found: int) -> None:
    assert len(findings(mlp(depth, width=8), select="GT001", min_depth=min_depth)) == found


def test_severity_follows_the_prediction() -> None:
    deep, short = (findings(mlp(depth), torch.randn(8, 64))[0].severity for depth in (10, 4))
    assert (deep, short) == ("error", "warning")


def test_severity_follows_the_measurement_where_there_is_one() -> None:
    model = mlp(6, torch.relu)
    report = gct.audit(model, torch.randn(64, 64), probe=True)
    (finding,) = report.findings
    assert report.chains[0].measured_decades is not None
    assert finding.severity == severity_of(report.chains[0].measured_decades)


def test_a_chain_on_the_meta_device_is_a_warning() -> None:
    (finding,) = findings(mlp(10).to("meta"), torch.zeros(4, 64, device="meta"))
    assert finding.severity == "warning"


def test_the_message_counts_the_blocks_and_names_their_kinds() -> None:
    (finding,) = findings(
        nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(8, 8), nn.Tanh())], nn.Linear(8, 2))
    )
    assert finding.message == "4 blocks of Linear → Tanh in a row without normalization"
    assert finding.layers == ("0", "2", "4", "6")
    assert finding.fix is not None
    assert (finding.fix.remedy, finding.fix.applicability) == ("insert-bn", "unsafe")


def test_the_message_names_two_kinds_and_counts_more() -> None:
    acts = (nn.Tanh(), nn.ReLU(), nn.Tanh(), nn.ReLU())
    two = nn.Sequential(*[layer for act in acts for layer in (nn.Linear(8, 8), act)], nn.Linear(8, 2))
    assert "Linear → Tanh and Linear → ReLU in a row" in findings(two)[0].message
    acts = (nn.Tanh(), nn.ReLU(), nn.ELU(), nn.GELU())
    four = nn.Sequential(*[layer for act in acts for layer in (nn.Linear(8, 8), act)], nn.Linear(8, 2))
    assert "Linear → Tanh and 3 other kinds in a row" in findings(four)[0].message


def recurrent(steps: int, stacked: bool) -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        low = high = torch.zeros(4, 8)
        for _ in range(steps):
            low = torch.tanh(net.f[0](x) + net.f[1](low))
            high = torch.tanh(net.f[2](low) + net.f[3](high)) if stacked else low
        return net.out(high)

    return Net(forward, f=linears(4), out=nn.Linear(8, 2))


@pytest.mark.parametrize("stacked", [pytest.param(False, id="one cell"), pytest.param(True, id="two cells")])
def test_the_message_counts_the_steps_of_a_recurrence(stacked: bool) -> None:
    assert findings(recurrent(6, stacked))[0].message.endswith("in a row without normalization, over 6 steps")


def test_the_remedy_of_a_recurrence_is_looked_for_since_no_norm_goes_between_its_steps() -> None:
    found = findings(recurrent(6, stacked=False))[0]
    assert found.fix is not None
    assert found.fix.remedy == "auto"


FILE = """\
import torch
from torch import nn
import torch.nn.functional as F


class Plain(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


def build(layer):
    layers = []
    for _ in range(4):
        layers += [layer(8, 8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 2))


class ByParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 8))

    def forward(self, x):
        for _ in range(5):
            x = torch.relu(x @ self.w)
        return x @ self.w
"""


@pytest.mark.parametrize(
    ("target", "place"),
    [
        pytest.param("plain", (14, 20, 31), id="a torch layer, where it is constructed"),
        pytest.param("own", (14, 20, 31), id="a layer with its own forward, where it is constructed"),
        pytest.param("ByParameter()", (25, 28, 38), id="a functional layer, where it is called"),
    ],
)
def test_a_finding_is_where_the_first_layer_is_constructed_or_else_called(
    target: str, place: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "model.py"
    path.write_text(FILE + "\n\ndef plain():\n    return build(nn.Linear)\n\n\ndef own():\n    return build(Plain)\n")
    subject = load_subject(f"{path}:{target}", input_specs=("4x8",))
    (finding,) = audit_subject(subject, select=["GT001"]).findings
    location = finding.location
    assert location is not None
    assert (location.line, location.column, location.end_column) == place
