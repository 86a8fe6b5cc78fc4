"""What `fix` says of a fix besides its verdict, and norms behind the fewest blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import capture
from gradcheck_tool.cli import gradtool
from gradcheck_tool.fixing.advice import Findings, advice
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.insert_norm import InsertNorm, NormKind, insertions_of
from gradcheck_tool.remedy.insert_norm.kinds import forecast_kind
from gradcheck_tool.target.request import LoadRequest

WIDTH = 32


def plain(depth: int, activation: type[nn.Module], he: bool = False, width: int = WIDTH) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    for layer in blocks if he else []:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*blocks, nn.Linear(width, 10))


def batch(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*(shape or (32, WIDTH)), generator=torch.Generator().manual_seed(0))


# advice

HEALTHY_FIRST = "healthy as it is: the gradient "
REDRAWN = "weights drawn anew heal it"
OWN_GROWTH = "batch norm itself makes the gradient grow"


@pytest.mark.parametrize(
    ("model", "x", "wanted"),
    [
        pytest.param(plain(6, nn.ReLU, he=True), batch(), [HEALTHY_FIRST], id="a healthy net needs no norms"),
        pytest.param(plain(12, nn.Sigmoid), batch(), [REDRAWN + " as well"], id="new weights do as well as norms"),
        pytest.param(
            plain(22, nn.ReLU), batch(), [OWN_GROWTH, REDRAWN + " as well"], id="norms heal, and explode a little"
        ),
        pytest.param(plain(60, nn.ReLU), batch(), [OWN_GROWTH, REDRAWN + " ("], id="norms move the trouble"),
        pytest.param(plain(12, nn.Sigmoid), batch(4, WIDTH), ["a batch of 4", REDRAWN], id="a batch of noise"),
        pytest.param(plain(12, nn.Sigmoid), batch(8, 3, WIDTH), [REDRAWN + " ("], id="no norm fits"),
    ],
)
def test_advice_on(model: nn.Module, x: Tensor, wanted: list[str]) -> None:
    result = gct.fix(model, x)
    assert len(result.advice) == len(wanted), result.advice
    assert all(got.startswith(start) for got, start in zip(result.advice, wanted, strict=True)), result.advice
    assert all(f"advice: {sentence}" in str(result).splitlines() for sentence in result.advice)
    assert result.to_dict()["advice"] == list(result.advice)


def test_what_batch_norm_makes_grow_was_predicted_and_is_measured() -> None:
    result = gct.fix(plain(22, nn.ReLU), batch())
    assert result.after is not None
    assert result.after.measured_decades is not None
    predicted = gct.audit(plain(22, nn.ReLU), batch()).chains[0].predicted_decades_with_bn
    assert predicted is not None
    assert predicted > 1.5
    assert f"{10**predicted:.0f}-fold predicted, {10**result.after.measured_decades:.0f}-fold measured" in str(result)


def test_nothing_doubtful_gets_no_advice() -> None:
    class Exp(nn.Module):  # new weights do not heal it, norms do
        def forward(self, x: Tensor) -> Tensor:
            return x.exp()

    result = gct.fix(plain(6, Exp), batch())
    assert result.after is not None
    assert result.before is not None
    assert (result.before.verdict != "healthy", result.after.verdict) == (True, "healthy")
    assert result.advice == ()


def test_trained_weights_are_not_drawn_anew() -> None:
    assert gct.fix(plain(12, nn.Sigmoid), batch()).advice[0].startswith(REDRAWN)
    assert REDRAWN not in str(gct.fix(plain(12, nn.Sigmoid), batch(), keep_function=True))


def test_the_model_and_the_random_state_are_left_as_they_were() -> None:
    model, x = plain(12, nn.Sigmoid), batch()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert REDRAWN in gct.fix(model, x).advice[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


REQUEST = LoadRequest("my model.py:Net", ("x=8x4",), None, "trained.pt")


@pytest.mark.parametrize(
    ("request_", "trained", "ending"),
    [
        pytest.param(
            REQUEST,
            True,
            "it is still exploding; gradtool fix --auto --input x=8x4 --weights trained.pt 'my model.py:Net' measures "
            "other norms",
            id="from the command line, trained",
        ),
        pytest.param(
            None,
            False,
            "it is still exploding; gradcheck_tool.fix(model, inputs, auto=True) measures other remedies",
            id="from Python",
        ),
    ],
)
def test_what_norms_do_not_heal_is_for_auto(request_: LoadRequest | None, trained: bool, ending: str) -> None:
    sick = replace(gct.probe(plain(4, nn.Tanh), batch()), verdict="exploding")
    found = Findings((), sick, sick, None, None, trained, None)
    assert advice(found, request_) == (ending,)
    redrawn = replace(sick, verdict="dead")
    assert "and with weights drawn anew dead; " in advice(replace(found, redrawn=redrawn), request_)[0]


def test_the_command_in_the_advice_works(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "from torch import nn\n\n"
        "model = nn.Sequential(*[part for _ in range(10) for part in (nn.Linear(16, 16), nn.Sigmoid())])\n"
    )
    outcome = CliRunner().invoke(gradtool, ["fix", "--insert-bn", "--input", "16x16", "--format", "json", str(file)])
    assert outcome.exit_code == 0, outcome.output
    (sentence,) = json.loads(outcome.stdout)["advice"]
    command = sentence.rpartition(": gradtool ")[2].split()
    assert command == ["fix", "--auto", "--input", "16x16", str(file)]
    assert CliRunner().invoke(gradtool, command).exit_code == 0


# the fewest norms


def planned(model: nn.Module, x: Tensor, kind: NormKind = "batch") -> tuple[Case, Plan]:
    inputs = for_model(model, x, None, 0)
    case = Case(model, inputs, read(model, inputs).structure)
    return case, InsertNorm(kind, "fewest").plan(case)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        pytest.param(plain(12, nn.Tanh), 3, id="tanh"),
        pytest.param(plain(12, nn.ReLU, width=64), 6, id="relu"),
        pytest.param(plain(6, nn.Sigmoid), 6, id="sigmoid needs them all"),
        pytest.param(plain(30, nn.SELU, width=128), 6, id="selu"),
    ],
)
def test_few_norms_keep_the_gradient_within_a_decade(model: nn.Sequential, most: int) -> None:
    x = batch(64, model[0].in_features)
    case, plan = planned(model, x)
    assert 0 < len(plan.steps) <= most
    assert len(plan.steps) + len(plan.skipped) == len(case.structure.blocks)
    fixed = InsertNorm("batch", "fewest").apply(capture(model, case.inputs)[0], plan, case)
    profile = gct.probe(fixed, x)
    norms = [layer.output_grad_norm or 0.0 for layer in profile.layers][:-1]
    assert max(norms) < 12 * min(norms)  # one net is not the mean over draws that is predicted
    assert profile.verdict == "healthy"


def test_a_sound_chain_needs_no_norm_and_each_block_left_out_is_told() -> None:
    _, plan = planned(plain(8, nn.ReLU, he=True), batch())
    assert plan.steps == ()
    assert {skip.reason for skip in plan.skipped} == {
        "no norm needed: the gradient is predicted to spread over 0.0 decades in its chain"
    }


@pytest.mark.parametrize(
    ("model", "x", "kind"),
    [
        pytest.param(plain(8, nn.Tanh), batch(scale=1000.0), "batch", id="inputs of another scale"),
        pytest.param(plain(8, nn.Tanh), batch(4, WIDTH), "batch", id="a batch that nothing is predicted for"),
        pytest.param(plain(8, nn.Tanh, width=64), batch(32, 64), "group", id="groups that the theory does not count"),
        pytest.param(
            nn.Sequential(*[part for _ in range(8) for part in (nn.Linear(8, 8), nn.Tanh())]).requires_grad_(False),
            batch(32, 8),
            "batch",
            id="weights that are all alike",
        ),
    ],
)
def test_where_nothing_is_known_every_block_has_its_norm(model: nn.Module, x: Tensor, kind: NormKind) -> None:
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.fill_(0.1)
    case, plan = planned(model, x, kind)
    assert insertions_of(plan) == insertions_of(InsertNorm(kind).plan(case))
    assert len(plan.steps) >= 7


def test_more_norms_than_help_are_not_put_in() -> None:
    case, plan = planned(plain(40, nn.ReLU, width=64), batch(64, 64))  # a decade is out of reach: batch norm explodes
    assert 0 < len(plan.steps) < len(case.structure.blocks)


def test_a_placement_has_a_name() -> None:
    with pytest.raises(ValueError, match="placement is 'some', neither a function nor one of all, fewest"):
        InsertNorm("batch", "some")  # type: ignore[arg-type]
    assert InsertNorm("batch", "fewest").title == "batch norm behind as few blocks as keep the gradient within a decade"


@pytest.mark.parametrize(
    ("norm", "groups", "kind"),
    [("BatchNorm2d", None, "batch"), ("RMSNorm", None, "rms"), ("GroupNorm", 1, "layer"), ("GroupNorm", 4, None)],
)
def test_the_theory_knows_a_norm_as(norm: str, groups: int | None, kind: str | None) -> None:
    assert forecast_kind(norm, 64, groups) == kind


def test_the_command_line_takes_the_fewest_norms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = (
        "from torch import nn\nmodel = nn.Sequential(*[p for _ in range(24) for p in (nn.Linear(64, 64), nn.Tanh())])"
    )
    Path("model.py").write_text(source)
    arguments = ["fix", "--norm", "layer", "--format", "json", "model.py"]
    every, fewest = (
        json.loads(CliRunner().invoke(gradtool, [*arguments, *more]).stdout)["plan"]
        for more in ([], ["--placement", "fewest"])
    )
    assert 2 * len(fewest) <= len(every) + 1
    refused = CliRunner().invoke(gradtool, ["fix", "--auto", "--placement", "all", "model.py"])
    assert refused.exit_code == 2
    assert "a placement is asked for too" in refused.stderr
