"""`reinit`, written into the user's own source: the lines, that they do what was planned, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from own_modules import module_at
from projects import project
from reinit_sources import STYLES, Style
from torch import nn

import gradcheck_tool as gct
from gradcheck_tool import auditing
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.fixing.auto import auto_fix
from gradcheck_tool.measuring import measurable
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.insert_norm import InsertNorm
from gradcheck_tool.remedy.patch.initializing import draws_of, propose_draws
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused, diff
from gradcheck_tool.remedy.patch.redrawn import Redrawn, check_redrawn, expect_redrawn, load
from gradcheck_tool.remedy.patch.verify import verify_redrawn
from gradcheck_tool.remedy.reinitialize import Reinitialize
from gradcheck_tool.results import FixResult
from gradcheck_tool.target import Subject, load_subject
from gradcheck_tool.target.request import LoadRequest

every_style = pytest.mark.parametrize("style", STYLES, ids=str)
BY_NAME = {style.name: style for style in STYLES}


@dataclass(frozen=True)
class Planned:
    """What was proposed for a source, the most natural first, and what a change of it has to build."""

    subject: Subject
    proposals: Sequence[Proposal]
    expected: Redrawn


def planned(subject: Subject) -> Planned:
    subject = measurable(subject, 0, always=True)
    structure = auditing.read(subject.model, subject.inputs).structure
    plan = Reinitialize().plan(Case(subject.model, subject.inputs, structure, 1, subject.births))
    draws = draws_of(subject.model, structure, plan.steps)
    proposals = list(propose_draws(subject.model, structure, draws, subject.origins))
    return Planned(subject, proposals, expect_redrawn(subject.model, draws, (), 0))


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], Any]:
    """A project of one file, loaded: a context, each in a folder of its own."""
    numbers = iter(range(100))
    return lambda source: project({"model.py": source.encode()}, tmp_path / f"project{next(numbers)}")


def outcome_of(source: bytes, expected: Redrawn, files: Callable[[str], Any]) -> str | None:
    """Why a changed source is refused; None where it is not."""

    def build() -> Subject:
        with files(source.decode()) as subject:
            assert isinstance(subject, Subject)
            return subject

    try:
        check_redrawn(build, expected)
    except Refused as refusal:
        return str(refusal)
    return None


def accepted(found: Planned, files: Callable[[str], Any]) -> Proposal:
    """The first proposal that passes the check."""
    reasons = []
    for proposal in found.proposals:
        reasons.append(outcome_of(*proposal.after.values(), found.expected, files))
        if reasons[-1] is None:
            return proposal
    raise AssertionError(reasons)


# -- the lines --------------------------------------------------------------------------------------------------------


@every_style
def test_the_source_draws_the_weights_as_a_person_would_write_it(style: Style, files: Callable[[str], Any]) -> None:
    with files(style.source) as subject:
        found = planned(subject)
        assert outcome_of(style.source.encode(), found.expected, files) is not None, "the check sees no difference"
        changed = diff(accepted(found, files)).split("\n")[2:]
    lines = [line for line in changed if line[:1] in ("+", "-")]
    assert lines == style.changes.strip("\n").split("\n")


@every_style
def test_the_old_weights_fit_into_the_changed_model(style: Style, files: Callable[[str], Any]) -> None:
    with files(style.source) as subject:
        found = planned(subject)
        (source,) = accepted(found, files).after.values()
        with files(source.decode()) as changed:
            changed.model.load_state_dict(subject.model.state_dict())


def test_a_deeper_or_a_shallower_net_of_the_changed_class_is_healthy_too(files: Callable[[str], Any]) -> None:
    style = next(style for style in STYLES if style.name == "a ModuleList")
    with files(style.source.replace("torch.relu", "torch.tanh").replace(".relu()", ".sigmoid()")) as subject:
        (source,) = planned(subject).proposals[0].after.values()
    with files(source.decode()) as changed:
        for depth, width in ((4, 16), (30, 24)):
            torch.manual_seed(0)
            model = type(changed.model)(depth, width)
            assert gct.probe(model, torch.randn(32, 16)).verdict == "healthy"


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_line_ends_and_everything_else_stay_as_they_are(end: str, files: Callable[[str], Any]) -> None:
    source = BY_NAME["attributes"].source.replace("\n", end)
    with files(source) as subject:
        (changed,) = planned(subject).proposals[0].after.values()
    lines, old = changed.decode().split(end), source.split(end)
    added = len(lines) - len(old)
    at = old.index("        self.out = nn.Linear(16, 4)  # the head") + 1
    assert added == 12
    assert lines[:at] + lines[at + added :] == old


def test_the_page_on_patches_shows_what_is_written() -> None:
    root = Path(__file__).parents[2]
    subject = load_subject(str(root / "examples" / "deep_sigmoid_mlp.py"))
    added = [line for line in diff(planned(subject).proposals[0]).split("\n")[2:] if line.startswith("+")]
    assert "\n".join(added) in (root / "docs" / "patching.md").read_text(encoding="utf-8")


# -- the check --------------------------------------------------------------------------------------------------------

TAMPERED = [
    pytest.param("nn.init.orthogonal_(self.fc1.weight)", "pass", "fc1.weight a standard deviation of", id="not drawn"),
    pytest.param("gain=gain", "gain=1.1 * gain", "fc2.weight a standard deviation of", id="another gain"),
    pytest.param("nn.init.zeros_(self.fc1.bias)", "pass", "fc1.bias other values than planned", id="bias left"),
    pytest.param("-0.5 *", "-0.4 *", "fc2.bias other values than planned", id="bias of another mean"),
    pytest.param(
        "nn.init.zeros_(self.fc1.bias)",
        "nn.init.zeros_(self.fc1.bias); nn.init.zeros_(self.out.weight)",
        "changes out.weight, which was to stay",
        id="too much drawn",
    ),
    pytest.param(
        "nn.init.zeros_(self.fc1.bias)",
        "nn.init.zeros_(self.fc1.bias); self.extra = nn.Linear(2, 2)",
        "other keys in its state dict: extra.bias",
        id="new keys",
    ),
    pytest.param(
        "nn.init.orthogonal_(self.fc1.weight)", "self.fc1.half(); nn.init.zeros_(self.missing)", "load", id="raises"
    ),
]


@pytest.mark.parametrize(("old", "new", "reason"), TAMPERED)
def test_a_source_that_does_something_else_is_refused(
    old: str, new: str, reason: str, files: Callable[[str], Any]
) -> None:
    with files(BY_NAME["attributes"].source) as subject:
        found = planned(subject)
        (source,) = found.proposals[0].after.values()
        assert old.encode() in source
        assert reason in (outcome_of(source.replace(old.encode(), new.encode()), found.expected, files) or "")


def test_a_source_whose_model_is_sick_all_the_same_is_refused(files: Callable[[str], Any]) -> None:
    with files(BY_NAME["attributes"].source) as subject:
        found = planned(subject)
        (source,) = found.proposals[0].after.values()
        sick = source.replace(b"return self.out(x)", b"return self.out(x * 1e-12)")
        reason = outcome_of(sick, found.expected, files)
    assert reason is not None
    assert reason.startswith("with the weights that the patched source draws the model is")


def test_what_is_expected_survives_the_way_to_another_process(files: Callable[[str], Any], tmp_path: Path) -> None:
    with files(BY_NAME["parameters that are multiplied by hand"].source) as subject:
        expected = planned(subject).expected
    expected.save(tmp_path / "expected.json")
    assert load(tmp_path / "expected.json") == expected


def test_it_is_checked_in_a_fresh_process(files: Callable[[str], Any], tmp_path: Path) -> None:
    style = BY_NAME["a factory that returns an expression"]
    with files(style.source) as subject:
        found = planned(subject)
        (proposal,) = found.proposals
        request = LoadRequest(subject.target.spec)
        verify_redrawn(proposal, found.expected, request)
        (path,) = proposal.after
        broken = replace(proposal, after={path: proposal.after[path].replace(b"2**0.5", b"2.0")})
        with pytest.raises(Refused, match=r"weight a standard deviation of"):
            verify_redrawn(broken, found.expected, request)
        assert path.read_bytes() == style.source.encode()


# -- refusals ---------------------------------------------------------------------------------------------------------

MANY_FORMS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for i in range(40):
            self.add_module(f"fc{i}", nn.Linear(8, 8))
            self.add_module(f"extra{i}", nn.Linear(8, 8))

    def forward(self, x):
        for i in range(40):
            x = torch.sigmoid(getattr(self, f"fc{i}")(x))
        return x
"""
EXECUTED = """
import torch
from torch import nn

exec("model = nn.Sequential(*[part for _ in range(8) for part in (nn.Linear(8, 8), nn.Sigmoid())], nn.Linear(8, 2))")
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(MANY_FORMS, "38 layers would have to be named one by one", id="no list has them"),
        pytest.param(EXECUTED, "the model is built inside a larger statement", id="executed text"),
    ],
)
def test_what_is_not_natural_is_refused(source: str, reason: str, files: Callable[[str], Any]) -> None:
    with files(source) as subject, pytest.raises(Refused, match=reason):
        planned(subject)


# -- fix --auto -------------------------------------------------------------------------------------------------------


def auto(source: str, **options: Any) -> FixResult:
    """What `fix --auto model.py` does."""
    Path("model.py").write_text(source)
    subject, request = load_subject("model.py"), LoadRequest("model.py")

    def insert(remedy: InsertNorm, depth: int) -> FixResult:
        raise AssertionError("no norm was to be taken")

    return auto_fix(subject, seed=0, trained=False, insert=insert, tell=lambda *_: None, request=request, **options)


def test_auto_shows_the_change_of_the_users_source_and_writes_nothing(working_folder: Path) -> None:
    source = BY_NAME["attributes"].source
    result = auto(source)
    assert (result.remedy, result.patch_refused, result.written, result.renamed) == ("reinit", None, None, {})
    assert result.diff.startswith("--- model.py\n+++ model.py\n@@")
    assert len(result.steps) == 6
    assert [path.name for path in working_folder.iterdir() if path.is_file()] == ["model.py"]
    assert Path("model.py").read_text() == source


def test_auto_writes_in_place_and_then_finds_nothing_to_do(working_folder: Path) -> None:
    result = auto(BY_NAME["attributes"].source, in_place=True)
    assert result.written == "model.py"
    again = auto(Path("model.py").read_text())
    assert again.before is not None
    assert (again.before.verdict, again.remedy, again.diff, again.patch_refused) == ("healthy", None, "", None)


def test_auto_writes_elsewhere_with_weights_that_fit(working_folder: Path) -> None:
    source = BY_NAME["attributes"].source
    result = auto(source, output=Path("other.py"), save_weights=Path("weights.pt"))
    assert (result.written, result.weights, Path("model.py").read_text()) == ("other.py", "weights.pt", source)
    model: nn.Module = module_at(working_folder / "other.py").Net()
    model.load_state_dict(torch.load("weights.pt"))
    x = torch.randn(32, 16)
    assert torch.allclose(model(x), result.model(x), atol=1e-5)


def test_where_the_source_is_refused_a_module_builds_the_model(working_folder: Path) -> None:
    result = auto(EXECUTED, output=Path("fixed.py"))
    assert result.patch_refused == "the model is built inside a larger statement, which gives it no name"
    assert result.written == "fixed.py"
    assert result.diff.startswith("--- /dev/null\n+++ fixed.py\n")
    module, x = module_at(working_folder / "fixed.py"), torch.randn(32, 8)
    one, other = module.build_model(), module.build_model()
    assert not torch.equal(one[2].weight, other[2].weight), "each is drawn anew"
    assert {gct.probe(model, x).verdict for model in (one, other)} == {"healthy"}
    Path("model.py").write_text(EXECUTED.replace("range(8)", "range(3)"))
    with pytest.raises(GradtoolError, match="has changed since the plan was made"):
        module.build_model()


def test_in_place_writes_no_module(working_folder: Path) -> None:
    result = auto(EXECUTED, in_place=True)
    assert (result.written, Path("model.py").read_text()) == (None, EXECUTED)
