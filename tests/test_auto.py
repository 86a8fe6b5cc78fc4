"""`fix --auto`: the smallest remedy that heals, measured; a healthy model is left alone."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from sklearn.datasets import load_digits
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.cli import gradtool
from gradcheck_tool.fixing.auto import _Attempt
from gradcheck_tool.remedy.activations import ChangeActivation
from gradcheck_tool.remedy.base import Plan
from gradcheck_tool.results import Learning

WIDTH = 32


def plain(depth: int, activation: type[nn.Module], gain: float | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
        if gain is not None:
            nn.init.normal_(layers[-2].weight, std=gain / WIDTH**0.5)
            nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def batch() -> Tensor:
    return torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(0))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_healthy_model_is_left_alone() -> None:
    model = plain(6, nn.ReLU, gain=2**0.5)
    result = gct.fix(model, batch(), auto=True)
    assert (result.plan, result.steps, result.tried, result.remedy, result.improved) == ((), (), (), None, None)
    assert "Nothing to fix: the model is healthy." in str(result)
    assert same(result.model.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        pytest.param(plain(12, nn.Sigmoid), "reinit", id="sigmoids"),
        pytest.param(plain(20, nn.ReLU), "reinit", id="small weights"),
        pytest.param(plain(12, nn.Tanh, gain=20.0), "reinit", id="chaos"),
        pytest.param(plain(6, Exp, gain=1.4), "change-activation", id="exponentials"),
    ],
)
def test_the_smallest_remedy_that_heals_is_taken_and_the_model_left_as_it_was(model: nn.Module, remedy: str) -> None:
    before = copy.deepcopy(model.state_dict())
    result = gct.fix(model, batch(), auto=True)
    assert result.remedy == remedy, [(trial.remedy, trial.verdict, trial.reason) for trial in result.tried]
    assert result.improved
    assert result.after is not None
    assert result.after.verdict == "healthy"
    assert [trial.heals for trial in result.tried] == [False] * (len(result.tried) - 1) + [True]
    assert same(model.state_dict(), before)
    assert gct.probe(result.model, batch()).verdict == "healthy"
    assert gct.fix(result.model, batch(), auto=True).tried == ()


def test_weights_that_are_kept_are_not_drawn_anew() -> None:
    model = plain(12, nn.Sigmoid)
    result = gct.fix(model, batch(), auto=True, keep_function=True)
    assert result.remedy == "insert-norm"
    assert len(result.plan) == 12
    assert result.function_change is not None
    assert result.function_change < 1e-5


def test_what_it_heals_learns() -> None:
    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    x = ((x - x.mean()) / x.std()).float()
    torch.manual_seed(0)
    layers = [part for _ in range(9) for part in (nn.Linear(64, 64), nn.Sigmoid())]
    model = gct.fix(nn.Sequential(*layers, nn.Linear(64, 10)), x[:64], auto=True).model
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(150):
        rows = torch.randint(len(x), (64,), generator=order)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((model.eval()(x).argmax(1) == y).double().mean()) > 0.8


def digits() -> tuple[Tensor, Tensor]:
    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    return ((x - x.mean()) / x.std()).float()[:64], y[:64]


def test_an_activation_that_outgrows_its_input_goes_before_its_weights_are_drawn_anew() -> None:
    """With other weights such a net looks healthy, fits its batch at once, and does not train."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), Exp(), nn.Linear(32, 32), Exp(), nn.Linear(32, 10))
    for parameter in model.parameters():
        parameter.data *= 3.0
    x, y = digits()
    result = gct.fix(model, x, auto=True, loss_fn=nn.functional.cross_entropy, targets=y)
    assert result.tried[0].remedy == "change-activation"  # the weights suit the new one as they are
    assert result.remedy == "change-activation"


def attempt(learning: Learning | None) -> _Attempt:
    profile = replace(gct.probe(plain(2, nn.ReLU), batch()), learning=learning)
    return _Attempt(ChangeActivation(), Plan(), gct.capture(plain(2, nn.ReLU), batch()), profile)


def test_which_of_several_remedies_is_taken() -> None:
    worst_first = [
        attempt(Learning(0.9, True, 4, 4, overrules=True)),  # its figures are bad
        attempt(Learning(0.1, False, 64, 64)),  # it does not learn
        attempt(Learning(0.5, True, 96, 96, soon=0.1)),
        attempt(Learning(0.3, True, 64, 64, soon=0.19)),
        attempt(Learning(0.4, True, 96, 96, soon=0.3)),  # much at first, and long nothing then
        attempt(Learning(0.17, True, 80, 16, soon=0.17)),  # too little for so many steps
        attempt(Learning(0.4, True, 64, 64, soon=0.19)),
        attempt(Learning(0.4, True, 80, 16, soon=0.4)),
        attempt(Learning(0.17, True, 4, 4, soon=0.17)),
        attempt(None),  # without a loss the figures are all there is
    ]
    assert sorted(worst_first, key=lambda one: one.rank) == worst_first
    assert [one.convinces() for one in worst_first] == [False] * 6 + [True] * 4


SOURCE = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(*[part for _ in range(10) for part in (nn.Linear(16, 16), nn.{})], nn.Linear(16, 4))
example_inputs = torch.randn(32, 16)
"""


def run(folder: Path, activation: str, *options: str) -> Any:
    file = folder / "model.py"
    file.write_text(SOURCE.format(activation))
    return CliRunner().invoke(gradtool, ["fix", "--auto", *options, str(file)])


def test_on_the_command_line(tmp_path: Path) -> None:
    outcome = run(tmp_path, "Sigmoid()", "--format", "json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert (found["auto"], found["remedy"]) == (True, "reinit")
    assert found["tried"][-1]["heals"]
    assert found["tried"][-1]["step_time_ratio"] > 0
    assert len(found["steps"]) == 10


def test_on_the_command_line_a_healthy_model_has_nothing_to_fix(tmp_path: Path) -> None:
    outcome = run(tmp_path, "SELU()")
    assert (outcome.exit_code, "Nothing to fix: the model is healthy." in outcome.stdout) == (0, True), outcome.output


def test_the_remedy_is_written_into_the_source(tmp_path: Path) -> None:
    shown = run(tmp_path, "Sigmoid()")
    assert (shown.exit_code, "add -i to change your source" in shown.stdout) == (0, True), shown.output
    assert (tmp_path / "model.py").read_text() == SOURCE.format("Sigmoid()")
    outcome = run(tmp_path, "Sigmoid()", "-i")
    assert outcome.exit_code == 0, outcome.output
    assert f"written to {tmp_path / 'model.py'}" in outcome.stdout
    assert "init.orthogonal_(" in (tmp_path / "model.py").read_text()
    again = CliRunner().invoke(gradtool, ["fix", "--auto", str(tmp_path / "model.py")])
    assert (again.exit_code, "Nothing to fix: the model is healthy." in again.stdout) == (0, True), again.output


def test_what_no_source_can_hold_is_said_where_it_was_to_be_written(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    source = f"exec({SOURCE.format('Sigmoid()')!r})\n"
    file.write_text(source)
    outcome = CliRunner().invoke(gradtool, ["fix", "--auto", "-i", str(file)])
    assert outcome.exit_code == 1, outcome.output
    assert "your own source is not changed: " in outcome.stdout
    assert file.read_text() == source


@pytest.mark.parametrize("chosen", [{"norm": "layer"}, {"placement": "fewest"}])
def test_in_python_a_remedy_and_auto_exclude_each_other(chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="auto chooses the remedy"):
        gct.fix(plain(6, nn.ReLU), batch(), auto=True, **chosen)


def test_a_remedy_and_auto_exclude_each_other(tmp_path: Path) -> None:
    outcome = run(tmp_path, "Sigmoid()", "--insert-bn")
    assert (outcome.exit_code, outcome.stderr.count("\n")) == (2, 1)
    assert "--auto chooses the remedy" in outcome.stderr
