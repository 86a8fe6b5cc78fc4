"""The rules: what each finds, how bad it calls it, and where; and the examples in their own docstrings, executed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import Net, linears, stack
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.results import Finding
from gradcheck_tool.rules import Rule, all_rules, find_rule, parse_codes
from gradcheck_tool.rules.gt001_unnormalized_chain import severity_of
from gradcheck_tool.target import load_subject

X = torch.randn(4, 8)
RULES = [pytest.param(rule, id=rule.code) for rule in all_rules()]


def findings(model: nn.Module, *inputs: Tensor, select: str = "GT0", **options: Any) -> tuple[Finding, ...]:
    return gct.audit(model, inputs or (X,), select=[select], **options).findings


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
        pytest.param(["GT0"], ("GT001", "GT002", "GT003"), id="by a prefix"),
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
    (finding,) = gct.api.audit_subject(subject, select=["GT001"]).findings
    location = finding.location
    assert location is not None
    assert (location.line, location.column, location.end_column) == place


# --- GT002 ----------------------------------------------------------------------------------------------------------


def overwriting(write: Callable[[Net, Tensor], Any], trainable: bool = True) -> Net:
    def forward(net: Net, x: Tensor) -> Tensor:
        write(net, x)
        return net.fc(x) * net.w

    return Net(
        forward,
        w=nn.Parameter(torch.ones(8), requires_grad=trainable),
        v=nn.Parameter(torch.ones(8)),
        fc=nn.Linear(8, 8),
    )


def without_grad(write: Callable[[Net, Tensor], Any]) -> Callable[[Net, Tensor], Any]:
    return torch.no_grad()(write)


def set_data(net: Net, x: Tensor) -> None:
    net.w.data = 0.9 * net.w.data + 0.1 * x.mean(0)


def set_item(net: Net, x: Tensor) -> None:
    net.w[0] = 1.0


def set_item_of_data(net: Net, x: Tensor) -> None:
    net.w.data[:] = x[0]


def rebind(net: Net, x: Tensor) -> None:
    net.w = nn.Parameter(x.mean(0).detach())


def set_attribute(net: Net, x: Tensor) -> None:
    setattr(net, "w", nn.Parameter(x.mean(0).detach()))  # noqa: B010


def add_by_operator(net: Net, x: Tensor) -> None:
    net.w += 1


WRITES = [
    pytest.param(set_data, "overwritten", id="data is set"),
    pytest.param(set_item_of_data, "overwritten", id="items of data are set"),
    pytest.param(without_grad(set_item), "overwritten", id="an item is set"),
    pytest.param(without_grad(lambda net, x: net.w.copy_(x[0])), "overwritten", id="copy_"),
    pytest.param(without_grad(lambda net, x: net.w.add_(1)), "overwritten", id="add_"),
    pytest.param(without_grad(lambda net, x: net.w.mul_(0.9).add_(x[0], alpha=0.1)), "overwritten", id="mul_ and add_"),
    pytest.param(without_grad(lambda net, x: net.w.lerp_(x[0], 0.1)), "overwritten", id="lerp_"),
    pytest.param(without_grad(add_by_operator), "bound|overwritten", id="+="),
    pytest.param(without_grad(lambda net, x: net.w[2:].fill_(0)), "overwritten", id="fill_ of a part"),
    pytest.param(without_grad(lambda net, x: net.w.view(2, 4).zero_()), "overwritten", id="zero_ of a view"),
    pytest.param(lambda net, x: net.w.detach().copy_(x[0]), "overwritten", id="copy_ into the detached"),
    pytest.param(lambda net, x: net.w.data.mul_(2), "overwritten", id="mul_ of data"),
    pytest.param(lambda net, x: nn.init.normal_(net.w), "overwritten", id="an initialization"),
    pytest.param(without_grad(lambda net, x: torch.add(net.w, 1, out=net.w)), "overwritten", id="out="),
    pytest.param(without_grad(lambda net, x: torch._foreach_mul_([net.w], 0.9)), "overwritten", id="a foreach op"),
    pytest.param(without_grad(lambda net, x: net.w.clamp_(0, 1).add_(1)), "overwritten", id="clamp_ and then add_"),
    pytest.param(rebind, "bound to a new nn.Parameter", id="a new parameter"),
    pytest.param(set_attribute, "bound to a new nn.Parameter", id="a new parameter by setattr"),
]


@pytest.mark.parametrize(("write", "how"), WRITES)
def test_a_parameter_that_forward_overwrites_is_found(write: Callable[[Net, Tensor], Any], how: str) -> None:
    (finding,) = findings(overwriting(write), select="GT002")
    assert finding.severity == "error"
    assert finding.message.startswith("the parameter w is ")
    assert any(word in finding.message for word in how.split("|"))
    assert finding.location is not None
    assert Path(finding.location.file).name == Path(__file__).name


@pytest.mark.parametrize(("write", "how"), WRITES)
def test_a_parameter_that_is_not_trained_may_be_overwritten(write: Callable[[Net, Tensor], Any], how: str) -> None:
    assert findings(overwriting(write, trainable=False), select="GT002") == ()


def momentum(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        for slow, fast in zip(net.slow.parameters(), net.fast.parameters(), strict=True):
            slow.data = slow.data * 0.99 + fast.data * 0.01
        key = net.slow(x)
    return net.fast(x) * key


def test_a_momentum_encoder_is_no_finding() -> None:
    model = Net(momentum, slow=nn.Linear(8, 8).requires_grad_(False), fast=nn.Linear(8, 8))
    assert findings(model, select="GT002") == ()


def test_a_momentum_encoder_that_would_be_trained_is_one_finding() -> None:
    model = Net(momentum, slow=nn.Linear(8, 8), fast=nn.Linear(8, 8))
    (finding,) = findings(model, select="GT002")
    assert "slow.weight and slow.bias are overwritten" in finding.message


LEFT_ALONE = [
    pytest.param(lambda net, x: net.w * 2, id="reading"),
    pytest.param(lambda net, x: net.w.clone().mul_(2), id="a copy is written to"),
    pytest.param(lambda net, x: (net.w + 0).zero_(), id="a result is written to"),
    pytest.param(lambda net, x: net.w.requires_grad_(True), id="requires_grad_"),
    pytest.param(without_grad(lambda net, x: net.w.clamp_(0, 1)), id="clamp_ to a range"),
    pytest.param(lambda net, x: setattr(net.w, "data", net.w.data.clamp(0, 1)), id="data set to a range"),
    pytest.param(
        without_grad(lambda net, x: net.w.copy_(nn.functional.normalize(net.w, dim=0))), id="its own direction"
    ),
    pytest.param(
        lambda net, x: nn.functional.embedding(torch.zeros(2, dtype=torch.long), net.w[:, None], max_norm=1.0),
        id="max_norm",
    ),
]


@pytest.mark.parametrize("write", LEFT_ALONE)
def test_what_leaves_the_parameter_to_the_optimizer_is_no_finding(write: Callable[[Net, Tensor], Any]) -> None:
    assert findings(overwriting(write), select="GT002") == ()


def test_buffers_may_be_overwritten() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    assert findings(model, select="GT002") == ()


def test_two_parameters_that_one_line_writes_to_are_one_finding() -> None:
    def write(net: Net, x: Tensor) -> None:
        for parameter in (net.w, net.v):
            parameter.data.zero_()

    (finding,) = findings(overwriting(write), select="GT002")
    assert finding.message.startswith("the parameters w and v are overwritten")


# --- GT003 ----------------------------------------------------------------------------------------------------------


def normalizing(spread: Callable[[Net, Tensor, Tensor], Tensor], **parts: Any) -> Net:
    """A net that divides by `spread(net, var, x)`."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.fc(x)
        mean, var = h.mean(0), h.var(0, unbiased=False)
        return net.out(torch.relu((h - mean) / spread(net, var, h)))

    return Net(forward, fc=nn.Linear(8, 8), out=nn.Linear(8, 2), **parts)


def updated(net: Net, var: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        net.running_var.mul_(0.9).add_(0.1 * var)
    return torch.sqrt(var + net.running_var)


def replaced(net: Net, var: Tensor, x: Tensor) -> Tensor:
    net.running_var = 0.9 * net.running_var + 0.1 * var
    return torch.sqrt(var + net.running_var)


def replaced_without_grad(net: Net, var: Tensor, x: Tensor) -> Tensor:
    net.running_var = (0.9 * net.running_var + 0.1 * var).detach()
    return torch.sqrt(var + net.running_var)


PER_CHANNEL = [
    pytest.param(lambda net, var, x: torch.sqrt(var + net.running_var), id="below the root"),
    pytest.param(lambda net, var, x: torch.sqrt(net.running_var + var), id="on the left"),
    pytest.param(lambda net, var, x: var.add(net.running_var).sqrt(), id="by methods"),
    pytest.param(lambda net, var, x: var.sqrt() + net.running_var, id="beside the root"),
    pytest.param(lambda net, var, x: (var + net.running_var.view(1, 8)) ** 0.5, id="reshaped"),
    pytest.param(lambda net, var, x: torch.sqrt(var + net.running_var[None]), id="with a dimension more"),
    pytest.param(lambda net, var, x: torch.sqrt(var + net.running_var + 1e-5), id="beside an epsilon"),
    pytest.param(lambda net, var, x: 1 / torch.rsqrt(var + net.running_var), id="one over rsqrt"),
    pytest.param(updated, id="updated in place first"),
]
REPLACED = [
    pytest.param(replaced, id="replaced first"),
    pytest.param(replaced_without_grad, id="replaced without gradient first"),
]


@pytest.mark.parametrize("spread", PER_CHANNEL)
def test_a_parameter_for_epsilon_is_found(spread: Callable[..., Tensor]) -> None:
    (finding,) = findings(normalizing(spread, running_var=nn.Parameter(torch.ones(8))), select="GT003")
    assert finding.message.startswith("running_var is added to the variance where epsilon belongs")


@pytest.mark.parametrize("spread", PER_CHANNEL + REPLACED)
def test_a_buffer_for_epsilon_is_found(spread: Callable[..., Tensor]) -> None:
    (finding,) = findings(normalizing(spread, running_var=torch.ones(8)), select="GT003")
    assert finding.message.startswith("running_var is added to the variance where epsilon belongs")
    assert finding.severity == "error"
    assert finding.location is not None


FINE = [
    pytest.param(lambda net, var, x: torch.sqrt(var + 1e-5), {}, id="a number"),
    pytest.param(lambda net, var, x: var.add(1e-5).sqrt(), {}, id="a number by add"),
    pytest.param(lambda net, var, x: torch.sqrt(var + net.eps), {"eps": 1e-5}, id="an attribute"),
    pytest.param(
        lambda net, var, x: torch.sqrt(var + net.eps), {"eps": torch.tensor(1e-5)}, id="a buffer without dimensions"
    ),
    pytest.param(
        lambda net, var, x: torch.sqrt(var + net.eps),
        {"eps": nn.Parameter(torch.full((1,), 1e-5))},
        id="a parameter of one value",
    ),
    pytest.param(lambda net, var, x: torch.sqrt(var.clamp(min=1e-5)), {}, id="a lower bound"),
    pytest.param(
        lambda net, var, x: torch.sqrt(0.9 * net.running_var + 0.1 * var + 1e-5),
        {"running_var": torch.ones(8)},
        id="a weighted mean with the running variance",
    ),
    pytest.param(
        lambda net, var, x: torch.sqrt(var + 1e-5) / net.scale,
        {"scale": nn.Parameter(torch.ones(8))},
        id="a learned scale",
    ),
    pytest.param(
        lambda net, var, x: torch.sqrt((x * x).mean(0) - x.mean(0) ** 2 + 1e-5), {}, id="a variance from two moments"
    ),
]


@pytest.mark.parametrize(("spread", "parts"), FINE)
def test_an_epsilon_is_no_finding(spread: Callable[..., Tensor], parts: dict[str, Any]) -> None:
    model = normalizing(spread, **parts)
    assert findings(model, select="GT003") == ()
    assert gct.audit(model, X).chains == ()  # and it is a normalization


def test_a_stored_tensor_that_is_added_elsewhere_is_no_finding() -> None:
    model = Net(
        lambda net, x: net.out(torch.relu(net.fc(x).std(0) + net.b)),
        fc=nn.Linear(8, 8),
        b=torch.ones(8),
        out=nn.Linear(8, 2),
    )
    assert findings(model, select="GT003") == ()


def test_the_handwritten_batch_norm_of_the_examples_has_both_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parent.parent / "examples" / "handwritten_batchnorm.py"
    spec = importlib.util.spec_from_file_location("handwritten_batchnorm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "handwritten_batchnorm", module)
    spec.loader.exec_module(module)
    found = findings(module.Net(), torch.randn(8, 64))
    assert [f.rule for f in found] == ["GT002", "GT002", "GT003"]
    lines = path.read_text().splitlines()
    assert all("running" in lines[f.location.line - 1] for f in found if f.location)
