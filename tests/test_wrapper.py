"""The file that `fix -o` writes where the user's source is not changed: it builds the model with its norms, from
wherever it is imported."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.wrapper import build_fixed, build_remedied
from gradcheck_tool.results import FixResult
from gradcheck_tool.target import load_subject
from gradcheck_tool.tasks import fix_subject

MODEL = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, depth=6):
            super().__init__()
            self.body = nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(8, 8), nn.Sigmoid())])
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.body(x))

    def build(depth=4):
        return Net(depth)
"""

TARGETS = {
    "model.py:Net": 6,
    "model.py": 6,
    "model.py:build(depth=5)": 5,
    "package_of_wrapper_tests.module:Net": 6,
    "package_of_wrapper_tests.module:build(5)": 5,
}
"""Forms of TARGET, and the number of blocks that the model has."""

REPORT = """
    import importlib.util, json, sys, torch
    reports = []
    for path in sys.argv[1:]:
        spec = importlib.util.spec_from_file_location("fixed", path)
        fixed = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fixed)
        weights = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            model = fixed.build_model()
            weights.append(float(model.get_parameter("head.weight").sum()))
        norms = [name for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm1d)]
        reports.append({"norms": norms, "weights": weights, "shape": list(model(torch.randn(5, 8)).shape)})
    print(json.dumps(reports))
"""


def write_project(folder: Path) -> None:
    """model.py, the same as a module of a package, and an empty folder."""
    package = folder / "package_of_wrapper_tests"
    package.mkdir()
    (folder / "out").mkdir()
    (package / "__init__.py").touch()
    for place in (folder / "model.py", package / "module.py"):
        place.write_text(textwrap.dedent(MODEL))


def fix(target: str, output: str | None = None, **options: bool) -> FixResult:
    return fix_subject(load_subject(target), output=Path(output) if output else None, **options)


def refuse(*_: Any) -> None:
    raise Refused("the tests want the other file")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradcheck_tool.fixing.change.propose", refuse)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write_project(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the written files build, by TARGET, in a fresh process that was started in another folder."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    names = [f"out/fixed_{index}.py" for index in range(len(TARGETS))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("gradcheck_tool.fixing.change.propose", refuse)
        patch.setattr(sys, "path", [*sys.path])
        for target, name in zip(TARGETS, names, strict=True):
            fix(target, name)
    command = [sys.executable, "-c", textwrap.dedent(REPORT), *(str(folder / name) for name in names)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder / "out", timeout=120)
    assert ran.returncode == 0, ran.stderr
    return dict(zip(TARGETS, json.loads(ran.stdout), strict=True))


@pytest.mark.parametrize(("target", "depth"), TARGETS.items(), ids=TARGETS)
def test_the_file_builds_the_model_with_the_norms_of_the_plan(built: dict[str, Any], target: str, depth: int) -> None:
    assert built[target]["norms"] == [f"body.{2 * index}_norm" for index in range(depth)]
    assert built[target]["shape"] == [5, 2]


@pytest.mark.parametrize("target", TARGETS)
def test_the_weights_follow_the_random_state_of_torch(built: dict[str, Any], target: str) -> None:
    first, again, other = built[target]["weights"]
    assert first == again != other


@pytest.mark.parametrize("name", ["model_fixed.py", "out/elsewhere.py"])
def test_the_diff_is_what_is_written_and_patch_applies_it(project: Path, name: str) -> None:
    written = fix("model.py:Net", name)
    text = (project / name).read_text()
    (project / name).unlink()
    subprocess.run(["patch", "-p0", "-s"], input=written.diff, text=True, check=True, cwd=project)
    assert (project / name).read_text() == text
    assert written.written == name


def test_without_an_output_the_diff_is_there_and_nothing_is_written(project: Path) -> None:
    before = sorted(project.rglob("*.py"))
    result = fix("model.py:Net")
    assert result.diff.startswith("--- /dev/null\n+++ model_fixed.py\n")
    assert (result.written, sorted(project.rglob("*.py"))) == (None, before)


def test_a_model_that_has_changed_since_is_told_so(project: Path) -> None:
    plan = [(entry.after, entry.norm, entry.num_features) for entry in fix("model.py:Net").plan]
    model = project / "model.py"
    model.write_text(model.read_text().replace("self.body", "self.trunk"))
    with pytest.raises(GradtoolError, match=r"has changed since the plan was made: no call body\.0") as caught:
        build_fixed("model.py:Net", plan)
    assert caught.value.hint == "run gradtool fix again"


def test_it_does_not_take_the_place_of_the_file_that_it_builds_the_model_of(project: Path) -> None:
    before = (project / "model.py").read_bytes()
    with pytest.raises(GradtoolError, match=r"cannot write model\.py: the model that is fixed is defined there"):
        fix("model.py:Net", "model.py")
    assert (project / "model.py").read_bytes() == before


def test_in_place_it_is_not_written(project: Path) -> None:
    before = sorted(project.rglob("*.py"))
    result = fix("model.py:Net", in_place=True)
    assert (result.written, result.patch_refused) == (None, "the tests want the other file")
    assert sorted(project.rglob("*.py")) == before


def test_in_a_folder_it_has_a_name_of_its_own(project: Path) -> None:
    assert fix("model.py:Net", "out").written == "out/model_fixed.py"
    assert (project / "out" / "model_fixed.py").exists()


def test_biases_are_dropped_from_what_it_builds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fix("model.py:Net", "fixed_without_bias.py", drop_bias=True)
    assert result.without_bias == tuple(f"body.{2 * index}" for index in range(6))
    monkeypatch.syspath_prepend(project)
    model = importlib.import_module("fixed_without_bias").build_model()
    del sys.modules["fixed_without_bias"]
    assert [key for key in model.state_dict() if "_norm" not in key and key.endswith("bias")] == ["head.bias"]


def test_a_model_of_an_installed_library_is_built_by_its_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradcheck_tool.fixing.change.rank", lambda filename: 1)
    result = fix("package_of_wrapper_tests.module:Net", "fixed.py")
    assert result.patch_refused == "package_of_wrapper_tests.module is an installed library's, not your own"
    assert 'TARGET = "package_of_wrapper_tests.module:Net"' in (project / "fixed.py").read_text()


GATED = """
    import torch
    from torch import nn

    def gated(x):
        value, gate = x.chunk(2, -1)
        return value * torch.relu(gate)

    class Gate(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.lift = nn.Linear(width, 2 * width)

        def forward(self, x):
            return gated(self.lift(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(20, 64)
            self.blocks = nn.Sequential(*[Gate(64) for _ in range(30)])
            self.head = nn.Linear(64, 3)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x)))

    def example_batch():
        x = torch.randn(64, 20)
        return x, x[:, :3].argmax(1)

    loss_fn = nn.CrossEntropyLoss()
"""


def loads_what_healed(module: str, build: str, factor: str, healed: nn.Module) -> None:
    """That a module in the current folder builds a model with 30 factors of that name, which takes `fixed.pt` and then
    gives what `healed` gives."""
    model = getattr(importlib.import_module(module), build)()
    del sys.modules[module]
    assert [key for key in model.state_dict() if key.endswith("scale")] == [
        f"blocks.{number}.{factor}" for number in range(30)
    ]
    model.load_state_dict(torch.load("fixed.pt", weights_only=True))
    x = torch.randn(5, 20)
    torch.testing.assert_close(model(x), healed(x))


def test_with_shortcuts_it_builds_what_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gated.py").write_text(textwrap.dedent(GATED))
    result = fix_subject(
        load_subject("gated.py:Net"), auto=True, output=Path("with_shortcuts.py"), save_weights=Path("fixed.pt")
    )
    assert (result.remedy, result.written) == ("add-shortcuts", "with_shortcuts.py")
    assert result.patch_refused is not None
    assert "ends in another function than it begins in" in result.patch_refused
    monkeypatch.syspath_prepend(tmp_path)
    loads_what_healed("with_shortcuts", "build_model", "lift_scale", result.model)


def test_the_changed_source_loads_the_weights_that_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inline = textwrap.dedent(GATED).replace(
        "return gated(self.lift(x))", "value, gate = self.lift(x).chunk(2, -1)\n        return value * torch.relu(gate)"
    )
    (tmp_path / "gated_inline.py").write_text(inline)
    subject = load_subject("gated_inline.py:Net")
    result = fix_subject(subject, auto=True, in_place=True, save_weights=Path("fixed.pt"))
    assert (result.remedy, result.patch_refused) == ("add-shortcuts", None)
    assert "return x + self.scale * (value * torch.relu(gate))" in (tmp_path / "gated_inline.py").read_text()
    del sys.modules["gated_inline"]
    monkeypatch.syspath_prepend(tmp_path)
    loads_what_healed("gated_inline", "Net", "scale", result.model)


def test_new_weights_and_shortcuts_are_made_as_planned(project: Path) -> None:
    model = build_remedied("model.py:Net", gains=[("body.2", 3.0, 0.0)], shortcuts=["body.2", "body.4"])
    assert float(model.get_parameter("body.2.weight").detach().square().mean()) == pytest.approx(9 / 8, rel=1e-5)
    assert [key for key in model.state_dict() if key.endswith("_scale")] == ["body.2_scale", "body.4_scale"]
    with pytest.raises(GradtoolError, match=r"has changed since the plan was made: no block of body\.7"):
        build_remedied("model.py:Net", shortcuts=["body.7"])
