"""Models that come wrapped, scripted, compiled, adapted, tied, parametrized, lazy, hooked or without weights: taken as
what they are, or refused with the reason."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import Net
from click.testing import CliRunner
from models_to_replay import WIDTH, features
from test_capturing import assert_same_run
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

import gradcheck_tool as gct
from gradcheck_tool.cli import gradtool
from gradcheck_tool.errors import GradtoolError

Change = Callable[[nn.Module], nn.Module]
DEPTH = 5
PLAIN = [f"{2 * index}" for index in range(DEPTH)]


def mlp(depth: int = DEPTH) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2))


def chains(model: nn.Module, x: Any = None) -> list[list[str]]:
    return [list(chain.layers) for chain in gct.audit(model, features(4) if x is None else x).chains]


def assert_replays(build: Callable[[], nn.Module], batches: tuple[int, ...] = (3, 1, 7)) -> None:
    for training in (True, False):
        model, graph = build(), gct.capture(build(), features(3))
        for batch in batches:
            torch.manual_seed(batch)
            assert_same_run(graph, model, features(batch), training)


# -- wrappers ----------------------------------------------------------------------------------------------------------


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


WRAPPERS: dict[str, tuple[Change, str]] = {
    "torch.compile": (torch.compile, ""),
    "DataParallel": (nn.DataParallel, ""),
    "torch.compile of DataParallel of torch.compile": (
        lambda model: torch.compile(nn.DataParallel(torch.compile(model))),
        "",
    ),
    "compiled in place": (compiled_in_place, ""),
    "a compiled part": (lambda model: nn.Sequential(torch.compile(model, backend="eager")), "0._orig_mod."),
    "a part compiled in place": (lambda model: nn.Sequential(compiled_in_place(model)), "0."),
    "a part in DataParallel": (lambda model: nn.Sequential(nn.DataParallel(model)), "0.module."),
    "an averaged model": (torch.optim.swa_utils.AveragedModel, "module."),
    "a model traced by torch.fx": (torch.fx.symbolic_trace, ""),
}


@pytest.mark.parametrize(("wrap", "prefix"), WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_has_the_chain_and_the_fix_of_the_model_within(wrap: Change, prefix: str) -> None:
    assert chains(wrap(mlp())) == [[prefix + name for name in PLAIN]]
    result = gct.fix(wrap(mlp()), features(8))
    assert [step.after for step in result.plan] == [prefix + name for name in PLAIN]
    result.model(features(5)).sum().backward()


@pytest.mark.parametrize(("wrap", "prefix"), WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_is_replayed(wrap: Change, prefix: str) -> None:
    model = mlp()
    graph = gct.capture(wrap(model), features(3))
    for batch in (3, 1, 7):
        x = features(batch)
        torch.testing.assert_close(graph(x), mlp()(x))


def scripted(model: nn.Module) -> nn.Module:
    return torch.jit.script(model)


def traced(model: nn.Module) -> nn.Module:
    return torch.jit.trace(model, features(2))


@pytest.mark.parametrize("verb", [gct.audit, gct.probe, gct.fix, gct.capture], ids=lambda verb: verb.__name__)
@pytest.mark.parametrize("wrap", [scripted, traced, lambda model: nn.DataParallel(scripted(model))])
def test_a_scripted_model_is_refused_with_the_way_out(wrap: Change, verb: Callable[..., Any]) -> None:
    with pytest.raises(GradtoolError, match=r"TorchScript module, whose Python code is gone.*name the nn.Module"):
        verb(wrap(mlp()), features(4))


@pytest.mark.parametrize("verb", [gct.audit, gct.probe, gct.fix, gct.capture], ids=lambda verb: verb.__name__)
def test_an_exported_model_is_taken_or_refused(verb: Callable[..., Any]) -> None:
    exported = torch.export.export(mlp(), (features(4),)).module()
    with contextlib.suppress(GradtoolError):
        assert verb(exported, features(4)) is not None


class Branches(nn.Module):
    """Its way depends on the data, which only TorchScript keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.linear(x).relu()
        return self.linear(-x) * 2


class WithScripts(nn.Module):
    def __init__(self, part: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.part, self.head = mlp(4), part(), nn.Linear(WIDTH, 2)
        self.body[-1] = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.part(self.body(x)))
        return y


PARTS = {"scripted": lambda: scripted(Branches()), "traced": lambda: traced(nn.Sequential(nn.Linear(WIDTH, WIDTH)))}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_scripted_part_is_one_node_that_ends_the_run(part: Callable[[], nn.Module]) -> None:
    model = WithScripts(part)
    report = gct.audit(model, features(4))
    assert [chain.layers for chain in report.chains] == [("body.0", "body.2", "body.4", "body.6")]
    assert [entry.node for entry in report.not_analyzed] == ["part"]
    assert_replays(lambda: WithScripts(part))


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_fixed_model_with_a_scripted_part_trains(part: Callable[[], nn.Module]) -> None:
    fixed = gct.fix(WithScripts(part), features(8)).model
    before = {name: weight.detach().clone() for name, weight in fixed.named_parameters() if "part" in name}
    optimizer = torch.optim.SGD(fixed.parameters(), lr=0.1)
    fixed(features(8)).square().sum().backward()
    optimizer.step()
    assert any(not torch.equal(weight, before[name]) for name, weight in fixed.named_parameters() if name in before)


def test_a_function_that_the_compiler_leaves_alone_is_looked_into() -> None:
    @torch.compiler.disable
    def step(layer: nn.Module, x: Tensor) -> Any:
        return layer(x).tanh()

    def forward(net: Net, x: Tensor) -> Tensor:
        for layer in net.body:  # type: ignore[union-attr]
            x = step(layer, x)
        return net.head(x)  # type: ignore[no-any-return, operator]

    net = Net(forward, body=nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)), head=nn.Linear(WIDTH, 2))
    assert chains(net) == [[f"body.{index}" for index in range(4)]]


def test_a_compiled_function_is_looked_into() -> None:
    activate = torch.compile(lambda x: x.tanh(), backend="eager")

    def forward(net: Net, x: Tensor) -> Tensor:
        for layer in net.body:  # type: ignore[union-attr]
            x = activate(layer(x))
        return net.head(x)  # type: ignore[no-any-return, operator]

    net = Net(forward, body=nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)), head=nn.Linear(WIDTH, 2))
    assert chains(net) == [[f"body.{index}" for index in range(4)]]


# -- adapters ----------------------------------------------------------------------------------------------------------


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        for layer in self.layers:
            x = torch.relu(layer(x))
        y: Tensor = self.out(x)
        return y


def adapted(**options: Any) -> nn.Module:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model: nn.Module = peft.get_peft_model(Backbone(), peft.LoraConfig(r=2, **options))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    return model


ADAPTERS: dict[str, tuple[dict[str, Any], bool]] = {
    "every hidden layer": ({"target_modules": r"layers\.\d"}, False),
    "every hidden layer, with dropout": ({"target_modules": r"layers\.\d", "lora_dropout": 0.2}, False),
    "weights decomposed (DoRA)": ({"target_modules": r"layers\.\d", "use_dora": True}, False),
    "the first layer alone": ({"target_modules": ["inp"]}, True),
}


@pytest.mark.parametrize(("options", "chain"), ADAPTERS.values(), ids=ADAPTERS)
def test_a_model_with_adapters_is_replayed_and_has_the_chains_that_it_has(options: Any, chain: bool) -> None:
    """An adapter is added to its layer before the activation: a join, so that such a layer is no block."""
    layers = [f"base_model.model.layers.{index}" for index in range(DEPTH)]
    assert chains(adapted(**options)) == ([layers] if chain else [])
    assert_replays(lambda: adapted(**options))
    model = adapted(**options)
    result = gct.fix(model, features(8))
    assert [step.after for step in result.plan] == (layers if chain else [])
    assert model.state_dict().keys() <= result.model.state_dict().keys()


def test_adapters_that_start_at_zero_are_healthy() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = peft.get_peft_model(Backbone(), peft.LoraConfig(r=2, target_modules=r"layers\.\d"))
    assert gct.probe(model, features(32)).verdict == "healthy"


# -- weights that are shared, made or missing --------------------------------------------------------------------------


class Tied(nn.Module):
    """An embedding that is the head too, and two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.body = nn.Embedding(11, WIDTH), mlp()
        self.body[-1], self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.body[4].weight = self.body[0].weight

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.embedding(ids).mean(1)))
        return y


def ids(batch: int) -> Tensor:
    return torch.randint(0, 11, (batch, 5))


def test_tied_weights_are_in_the_chain_under_each_name_and_stay_tied() -> None:
    assert chains(Tied(), ids(4)) == [[f"body.{name}" for name in PLAIN]]
    result = gct.fix(Tied(), ids(8))
    fixed = copy.deepcopy(result.model)
    assert fixed.get_parameter("head.weight") is fixed.get_parameter("embedding.weight")
    assert fixed.get_parameter("body.4.weight") is fixed.get_parameter("body.0.weight")
    for training in (True, False):
        model, graph = Tied(), gct.capture(Tied(), ids(3))
        for batch in (3, 1, 7):
            assert_same_run(graph, model, ids(batch), training)


class Softened(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.tanh()


def own_parametrization(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Softened())
    return layer


LENGTHS: dict[str, Change] = {
    "weight norm": parametrizations.weight_norm,
    "weight norm by hooks": weight_norm,
}
BOUNDS: dict[str, Change] = {
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by hooks": spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "of the user's own": own_parametrization,
}


def parametrized(change: Change) -> nn.Module:
    model = mlp()
    for index in range(0, 2 * DEPTH, 2):
        model[index] = change(model[index])  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("change", BOUNDS.values(), ids=BOUNDS)
def test_bound_weights_are_a_chain_that_batch_norm_would_undo(change: Change) -> None:
    model = parametrized(change)
    assert chains(model) == [PLAIN]
    result = gct.fix(model, features(8))
    assert result.plan == ()
    assert [skip.layer for skip in result.skipped] == PLAIN
    assert {skip.reason for skip in result.skipped} == {
        "its weight is bound by a parametrization, which a norm would undo"
    }
    assert_replays(lambda: parametrized(change))


@pytest.mark.parametrize("change", LENGTHS.values(), ids=LENGTHS)
def test_weight_norm_normalizes_no_values_and_takes_a_norm(change: Change) -> None:
    model = parametrized(change)
    assert chains(model) == [PLAIN]
    result = gct.fix(model, features(8))
    assert [entry.after for entry in result.plan] == PLAIN
    assert result.skipped == ()
    assert set(model.state_dict()) <= set(result.model.state_dict())
    assert chains(result.model) == []
    assert_replays(lambda: parametrized(change))


LAZY: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(
        *[p for _ in range(4) for p in (nn.LazyLinear(WIDTH), nn.Tanh())], nn.LazyLinear(2)
    ),
    "batch norm": lambda: nn.Sequential(nn.LazyLinear(WIDTH), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(2)),
    "batch norm without weights": lambda: nn.Sequential(
        nn.Linear(WIDTH, WIDTH), nn.LazyBatchNorm1d(affine=False), nn.ReLU(), nn.Linear(WIDTH, 2)
    ),
    "half of them have run": lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.LazyLinear(3), nn.LazyLinear(2)),
}


@pytest.mark.parametrize("verb", [gct.audit, gct.probe, gct.fix, gct.capture], ids=lambda verb: verb.__name__)
@pytest.mark.parametrize("build", LAZY.values(), ids=LAZY)
def test_lazy_layers_are_read_and_stay_lazy(build: Callable[[], nn.Module], verb: Callable[..., Any]) -> None:
    model = build()
    kinds = [type(module) for module in model.modules()]
    lazy = [nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())]
    verb(model, features(4))
    assert [type(module) for module in model.modules()] == kinds
    assert [nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())] == lazy
    assert model(features(4)).shape == (4, 2)


def test_lazy_layers_that_have_run_are_what_they_have_become() -> None:
    model = LAZY["linear"]()
    model(features(2))
    graph = gct.capture(model, features(4))
    assert {id(parameter) for parameter in graph.parameters()} == {id(parameter) for parameter in model.parameters()}
    assert chains(model) == [PLAIN[:4]]


@pytest.mark.parametrize(
    "lazy", ["nn.LazyLinear(6), nn.LazyBatchNorm1d()", "nn.Linear(6, 6), nn.LazyBatchNorm1d(affine=False)"]
)
@pytest.mark.parametrize("option", [["--input", "8x6"], []], ids=["with an input", "inferred"])
def test_lazy_layers_in_a_file(lazy: str, option: list[str], tmp_path: Path) -> None:
    file = tmp_path / "lazy_model.py"
    file.write_text(f"from torch import nn\nmodel = nn.Sequential({lazy}, nn.ReLU(), nn.Linear(6, 2))\n")
    result = CliRunner().invoke(gradtool, ["audit", str(file), *option])
    assert result.exit_code == 0, result.output


# -- without weights ---------------------------------------------------------------------------------------------------


def weightless(device: str) -> tuple[nn.Module, Tensor]:
    with torch.device("meta"):
        model = mlp()
    return model, torch.randn(4, WIDTH, device=device)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_model_without_weights_has_chains_and_no_prediction(device: str) -> None:
    report = gct.audit(*weightless(device))
    (chain,) = report.chains
    assert (list(chain.layers), chain.predicted_decades, chain.measured_decades) == (PLAIN, None, None)
    assert [(finding.rule, finding.severity) for finding in report.findings] == [("GT001", "warning")]
    assert report.to_dict()["chains"][0]["predicted_decades"] is None
    assert report.capture.device == "meta"


def test_a_model_of_which_a_part_has_weights_is_read_too() -> None:
    model, x = weightless("cpu")
    model[0] = nn.Linear(WIDTH, WIDTH)  # type: ignore[index]
    (chain,) = gct.audit(model, x).chains
    assert (list(chain.layers), chain.predicted_decades) == (PLAIN, None)


def test_a_model_without_weights_is_captured_and_fixed_where_it_is() -> None:
    model, x = weightless("cpu")
    assert gct.capture(model, x)(torch.empty(7, WIDTH, device="meta")).shape == (7, 2)
    result = gct.fix(model, x)
    assert ([step.after for step in result.plan], result.before, result.improved) == (PLAIN, None, None)


def test_a_model_without_weights_whose_way_depends_on_values_is_told_why() -> None:
    with torch.device("meta"):
        model = nn.Sequential(Branches(), nn.Tanh())
    with pytest.raises(GradtoolError, match="meta device") as caught:
        gct.audit(model, features(4))
    assert caught.value.line == Branches.forward.__code__.co_firstlineno + 1


# -- containers of torch.nn --------------------------------------------------------------------------------------------


def transformer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Transformer(8, 2, 2, 2, 16, dropout=0.1, batch_first=True)


def test_a_transformer_of_torch_is_opened_and_replayed() -> None:
    """Each of its blocks is normalized: the feed-forward nets have one activation each."""
    inputs = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    assert {len(chain) for chain in chains(transformer(), inputs)} == {1}
    for training in (True, False):
        model, graph = transformer(), gct.capture(transformer(), inputs)
        for batch in (3, 1, 7):
            assert_same_run(graph, model, (torch.randn(batch, 5, 8), torch.randn(batch, 4, 8)), training)


# -- nothing to do -----------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x).relu())


NOTHING_TO_DO = {
    "a residual net": "nn.Sequential(*[Residual() for _ in range(8)])",
    "a net with norms": "nn.Sequential(*[p for _ in range(8) for p in (nn.Linear(6, 6), nn.LayerNorm(6), nn.ReLU())])",
    "a shallow net": "nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))",
    "one layer": "nn.Linear(6, 2)",
    "an LSTM": "nn.LSTM(6, 6)",
    "linear layers alone": "nn.Sequential(*[nn.Linear(6, 6) for _ in range(8)])",
}


@pytest.mark.parametrize("code", NOTHING_TO_DO.values(), ids=NOTHING_TO_DO)
def test_a_fix_with_nothing_to_do_says_so_and_writes_nothing(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"""
from torch import nn
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
    def forward(self, x):
        return x + self.b(self.a(x).relu())
model = {code}
"""
    monkeypatch.chdir(tmp_path)
    Path("their_model.py").write_text(text)
    result = CliRunner().invoke(gradtool, ["fix", "--insert-bn", "their_model.py:model", "--input", "8x6"])
    assert result.exit_code == 0, result.output
    assert "Nothing to do" in result.stdout
    assert Path("their_model.py").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["their_model.py"]


def test_a_fix_with_nothing_to_do_gives_the_model_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[Residual() for _ in range(8)], nn.Linear(WIDTH, 2))
    result = gct.fix(model, features(8))
    assert (result.plan, result.skipped, result.improved, result.diff, result.written) == ((), (), None, "", None)
    x = features(5)
    assert torch.equal(result.model(x), model(x))
    assert list(result.model.state_dict()) == list(model.state_dict())
