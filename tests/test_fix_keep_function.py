"""Batch norms that start as the identity, for trained weights: what the network computes in evaluation mode stays, and
the weights can be saved for the changed source."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import Net, alexnet, image, vgg
from click.testing import CliRunner, Result
from own_modules import module_at
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import gradcheck_tool as gct
from gradcheck_tool.cli import gradtool
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.target.weights import load_weights


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tanhs(depth: int, width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(width, width), nn.Tanh())])


def trained(model: nn.Module, x: Tensor) -> nn.Module:
    """Some steps away from where it began, biases and all."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * parameter.data.abs().mean() * torch.randn_like(parameter)
    return model


def conv_and_linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.ReLU(), nn.Dropout2d(0.2)),
        *(nn.Conv2d(12, 12, 3), nn.SiLU(), nn.Flatten(), nn.Linear(192, 40), nn.Tanh(), nn.Dropout(), nn.Linear(40, 5)),
    )


def shared() -> nn.Module:
    torch.manual_seed(0)
    call = lambda net, x: net.out(torch.tanh(net.f(torch.tanh(net.f(torch.tanh(net.f(torch.tanh(net.f(x)))))))))  # noqa: E731
    return Net(call, f=nn.Linear(16, 16), out=nn.Linear(16, 2))


def two_ways() -> nn.Module:
    torch.manual_seed(0)

    def call(net: Net, x: Tensor) -> Tensor:
        a = net.a(x)
        return net.out(torch.cat([net.b(a), net.c(a)], 1))

    return Net(call, a=tanhs(4), b=tanhs(4), c=tanhs(4), out=nn.Linear(16, 2))


def with_a_norm() -> nn.Module:
    """Has a batch norm of its own, with statistics of its own."""
    torch.manual_seed(0)
    layers = [part for _ in range(4) for part in (nn.Linear(16, 16), nn.Tanh())]
    model = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), *layers, nn.Linear(16, 2))
    model(3 * drawn(64, 16, seed=5) + 1)
    return model


class Auxiliary(nn.Module):
    """Has a branch more in training, and another in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.aux, self.late = tanhs(4), tanhs(4), tanhs(4)

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return (y, self.aux(y)) if self.training else self.late(y)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "convolutions and linears, with dropout": (conv_and_linear, lambda: drawn(16, 3, 14, 14)),
    "one layer called four times": (shared, lambda: drawn(16, 16)),
    "parallel ways": (two_ways, lambda: drawn(16, 8)),
    "batch norms of its own": (with_a_norm, lambda: drawn(16, 16)),
    "another way in each mode": (Auxiliary, lambda: drawn(16, 8)),
    "AlexNet": (alexnet, lambda: image(64)),
    "VGG": (vgg, lambda: image(8)),
}


@pytest.mark.parametrize("name", NETS)
def test_what_it_computes_in_evaluation_mode_stays(name: str) -> None:
    build, inputs = NETS[name]
    x = inputs()
    model = trained(build(), x)
    before = copy.deepcopy(model.state_dict())
    result = gct.fix(model, x, keep_function=True)
    assert result.plan
    old, new = model.eval().requires_grad_(False), result.model.eval().requires_grad_(False)
    for batch in (x, x[:1], 2 * x + 1):
        wanted = old(batch)
        assert float((new(batch) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert result.function_change is not None
    assert result.function_change <= 1e-5
    assert "function kept in evaluation mode: outputs differ by at most" in str(result)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the model is left alone"


def test_the_statistics_are_those_of_the_batch_without_norms() -> None:
    x = drawn(64, 16)
    model = nn.Sequential(*[part for _ in range(4) for part in (nn.Linear(16, 16), nn.Tanh())], nn.Linear(16, 2))
    fixed = gct.fix(model, x, keep_function=True).model
    for at in (0, 2, 4, 6):
        seen = model[: at + 1](x).detach()
        norm = fixed.get_submodule(f"{at}_norm")
        torch.testing.assert_close(norm.running_mean, seen.mean(0))
        torch.testing.assert_close(norm.running_var, seen.var(0))
        torch.testing.assert_close(norm.weight, (seen.var(0) + norm.eps).sqrt())
        torch.testing.assert_close(norm.bias, seen.mean(0))


def test_training_starts_near_the_old_function() -> None:
    x = drawn(512, 16)
    model = nn.Sequential(*[part for _ in range(4) for part in (nn.Linear(16, 16), nn.Tanh())], nn.Linear(16, 2))
    kept, fresh = (gct.fix(model, x, keep_function=keep).model.train() for keep in (True, False))
    other = drawn(512, 16, seed=7)

    def away(fixed: nn.Module) -> float:
        return float((fixed(other) - model(other)).detach().norm() / model(other).detach().norm())

    assert away(kept) < 0.2 < away(fresh)


def test_it_trains_on_from_there() -> None:
    x = drawn(32, 16)
    fixed = gct.fix(tanhs(5, 16), x, keep_function=True).model.train()
    optimizer = torch.optim.SGD(fixed.parameters(), 0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (fixed(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["layer", "group", "rms"])
def test_norms_of_each_sample_cannot_keep_it(kind: Any) -> None:
    with pytest.raises(GradtoolError, match="would change the function: it takes the statistics of each sample"):
        gct.fix(tanhs(5), drawn(8, 8), norm=kind, keep_function=True)


def test_a_model_that_gives_no_finite_values_has_no_statistics() -> None:
    model = tanhs(5)
    nn.init.constant_(model[0].weight, float("inf"))
    with pytest.raises(GradtoolError, match="would see values that are not finite"):
        gct.fix(model, drawn(8, 8), keep_function=True)


def test_a_model_without_weights_has_none_either() -> None:
    with torch.device("meta"):
        model = tanhs(5)
    with pytest.raises(GradtoolError, match="has no weights"):
        gct.fix(model, torch.randn(8, 8, device="meta"), keep_function=True)


# on the command line, with the source and the weights

SEQUENTIAL = """\
import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return torch.tanh(self.fc(x))


class Net(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.inp = nn.Linear(8, width)
        self.ways = nn.ModuleList([nn.Sequential(Tied(width), Tied(width)) for _ in range(2)])
        self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        return self.out(self.body(self.ways[0](x) * self.ways[1](x)))


example_inputs = torch.randn(32, 8)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and weights for it, which are not those that it is built with."""
    (tmp_path / "model.py").write_text(SEQUENTIAL)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    torch.save(loaded(tmp_path / "model.py").state_dict(), tmp_path / "trained.pt")
    return tmp_path


def loaded(file: Path) -> nn.Module:
    module = module_at(file)
    net: nn.Module = module.Net() if hasattr(module, "Net") else module.build_model()
    return net


def fix(*arguments: str) -> Result:
    return CliRunner().invoke(gradtool, ["fix", "--norm", "batch", "--min-depth", "2", *arguments])


@pytest.mark.parametrize("name", ["kept.pt", "kept.safetensors"])
def test_the_changed_source_with_the_saved_weights_is_the_old_model(name: str, folder: Path) -> None:
    arguments = ("--keep-function", "--weights", "trained.pt", "-o", "fixed.py", "--save-weights", name)
    result = fix(*arguments, "--format", "json", "model.py:Net")
    assert result.exit_code in (0, 1), result.stderr
    document = json.loads(result.stdout)
    assert (document["written"], document["weights"], document["patch_refused"]) == ("fixed.py", name, None)
    assert document["renamed"]
    assert document["function_change"] <= 1e-5
    old, new = loaded(folder / "model.py"), loaded(folder / "fixed.py")
    load_weights(old, str(folder / "trained.pt"))
    load_weights(new, str(folder / name))
    assert sum(isinstance(module, _BatchNorm) for module in new.modules()) == len(document["plan"]) == 7
    x = drawn(10, 8)
    torch.testing.assert_close(new.eval()(x), old.eval()(x), rtol=1e-5, atol=1e-6)


def test_where_the_source_cannot_be_changed_they_are_those_of_the_module(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradcheck_tool.fixing.change.is_own", lambda target: False)
    result = fix(
        "--keep-function", "--weights", "trained.pt", "-o", "fixed.py", "--save-weights", "w.pt", "model.py:Net"
    )
    assert "weights written to w.pt, under the keys of the module above\n" in result.stdout
    old, new = loaded(folder / "model.py"), loaded(folder / "fixed.py")
    load_weights(old, str(folder / "trained.pt"))
    new.load_state_dict(torch.load(folder / "w.pt", weights_only=True))
    x = drawn(10, 8)
    torch.testing.assert_close(new.eval()(x), old.eval()(x), rtol=1e-5, atol=1e-6)


def test_fresh_norms_can_be_saved_too(folder: Path) -> None:
    result = fix("-o", "fixed.py", "--save-weights", "w.pt", "model.py:Net")
    assert "weights written to w.pt, under the keys of the changed source\n" in result.stdout
    loaded(folder / "fixed.py").load_state_dict(torch.load(folder / "w.pt", weights_only=True))


def test_that_the_source_does_not_hold_them_is_said(folder: Path) -> None:
    result = fix("--keep-function", "model.py:Net")
    assert "the norms' values, which no source holds: --save-weights FILE writes them" in result.stdout


def test_nothing_is_written_where_there_is_nothing_to_do(folder: Path) -> None:
    result = fix("--min-depth", "9", "--save-weights", "w.pt", "model.py:Net")
    assert (result.exit_code, result.stdout.partition(":")[0]) == (0, "Nothing to do")
    assert not (folder / "w.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--norm", "layer", "--keep-function"), "only batch norm can keep it: --norm batch"),
        (("--save-weights", "no/such/folder.pt"), "cannot write no/such/folder.pt: there is no folder no/such"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], line: str, folder: Path) -> None:
    result = fix(*arguments, "model.py:Net")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert line in result.stderr
