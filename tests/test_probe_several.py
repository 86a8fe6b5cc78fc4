"""The probe over several batches and seeds: means of logarithms, spreads, the verdict of most, and whose batches."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

import gradcheck_tool as gct
from gradcheck_tool import schemas
from gradcheck_tool.batches import drawn_anew
from gradcheck_tool.cli import gradtool
from gradcheck_tool.inputs import for_model, from_specs
from gradcheck_tool.probing.several import WORST_FIRST, summarize
from gradcheck_tool.report import QUIET, render
from gradcheck_tool.results import AfterSteps, GradientProfile, LayerGradient, Learning, ProbeOutput, Verdict

INF = math.inf
EXAMPLES = Path(__file__).parents[1] / "examples"


def net(depth: int = 4, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [part for _ in range(depth) for part in (nn.Linear(8, 8), nn.Tanh(), nn.Dropout(dropout))]
    return nn.Sequential(*blocks, nn.Linear(8, 3))


def batches(count: int, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


def mean_log10(values: list[float]) -> float:
    return sum(map(math.log10, values)) / len(values)


# against runs of one batch and one seed


def test_figures_are_the_means_of_the_logarithms_over_batches_and_seeds() -> None:
    model, given = net(dropout=0.3), batches(3)
    alone = [gct.probe(model, x, cross_entropy, y, seed=seed) for x, y in given for seed in (5, 6)]
    several = gct.probe(model, given, cross_entropy, batches=3, seeds=2, seed=5)
    assert (several.batches, several.seeds, several.seed, several.batch_size) == (3, 2, 5, 16)
    for index, layer in enumerate(several.layers):
        for name in ("grad_norm", "output_grad_norm"):
            norms = [getattr(run.layers[index], name) for run in alone]
            assert math.log10(getattr(layer, name)) == pytest.approx(mean_log10(norms))
            spread = statistics.stdev(map(math.log10, norms))
            assert getattr(layer, f"{name}_decades_std") == pytest.approx(spread)
        assert layer.weight_norm == alone[0].layers[index].weight_norm
    changes = [run.measured_decades or 0.0 for run in alone]
    assert several.measured_decades == pytest.approx(statistics.mean(changes))
    assert several.measured_decades_std == pytest.approx(statistics.stdev(changes))


def test_the_mean_change_is_the_change_of_the_means() -> None:
    several = gct.probe(net(), batches(4), cross_entropy, batches=4)
    norms = {layer.name: layer.output_grad_norm or 0.0 for layer in several.layers}
    assert several.measured_over is not None
    first, last = (norms[name] for name in several.measured_over)
    assert several.measured_decades == pytest.approx(math.log10(first / last))


def test_one_batch_and_one_seed_are_the_probe_as_it_was() -> None:
    model, (x, y) = net(), batches(1)[0]
    alone = gct.probe(model, x, cross_entropy, y)
    assert gct.probe(model, x, cross_entropy, y, batches=1, seeds=1) == alone
    assert gct.probe(model, [(x, y)], cross_entropy, batches=2).layers == alone.layers
    assert (alone.batches, alone.seeds, alone.measured_decades_std) == (1, 1, None)
    assert {layer.grad_norm_decades_std for layer in alone.layers} == {None}


def test_equal_seeds_give_equal_reports_and_leave_no_trace() -> None:
    model = net(dropout=0.3)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first = gct.probe(model, input_size=(16, 8), batches=2, seeds=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert gct.probe(model, input_size=(16, 8), batches=2, seeds=2) == first
    assert gct.probe(model, input_size=(16, 8), batches=2, seeds=2, seed=1) != first


def test_seeds_change_the_projection_and_not_the_weights() -> None:
    several = gct.probe(net(), torch.randn(16, 8), seeds=3)
    assert all((layer.grad_norm_decades_std or 0) > 0 for layer in several.layers)
    assert len({layer.weight_norm for layer in several.layers}) == len(several.layers)  # each its own, none averaged


def test_seeds_change_nothing_where_nothing_is_random() -> None:
    x, y = batches(1)[0]
    alone = gct.probe(net(), x, cross_entropy, y)
    several = gct.probe(net(), x, cross_entropy, y, seeds=3)
    assert several.measured_decades_std == 0.0
    assert [layer.grad_norm for layer in several.layers] == [layer.grad_norm for layer in alone.layers]


# where the batches come from


def generated() -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield torch.randn(16, 8), torch.randint(0, 3, (16,))


class Loader:
    """Walked through from the start each time, and no DataLoader."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(batches(5))


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(lambda: batches(3), id="a list"),
        pytest.param(lambda: batches(5), id="a longer list, of which the first are taken"),
        pytest.param(lambda: iter(batches(3)), id="an iterator"),
        pytest.param(Loader, id="an object that can be walked through"),
        pytest.param(
            lambda: DataLoader(TensorDataset(*map(torch.cat, zip(*batches(3), strict=True))), 16), id="a DataLoader"
        ),
    ],
)
def test_the_users_batches(example: Callable[[], Any]) -> None:
    several = gct.probe(net(), example(), cross_entropy, batches=3)
    assert several == gct.probe(net(), batches(3), cross_entropy, batches=3)
    assert several.batches == 3


def test_an_endless_generator_is_read_as_far_as_needed_and_draws_from_the_seed() -> None:
    source = generated()
    state = torch.get_rng_state()
    first = gct.probe(net(), source, cross_entropy, batches=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert gct.probe(net(), generated(), cross_entropy, batches=2) == first
    assert (first.measured_decades_std or 0) > 0


def test_a_loader_that_shuffles_gives_the_same_report_again() -> None:
    data = TensorDataset(torch.randn(64, 8), torch.randint(0, 3, (64,)))
    loader = DataLoader(data, 16, shuffle=True)
    assert gct.probe(net(), loader, cross_entropy, batches=2) == gct.probe(net(), loader, cross_entropy, batches=2)


def test_without_a_loss_each_batch_is_an_example() -> None:
    inputs = [x for x, _ in batches(3)]
    several = gct.probe(net(), inputs, batches=3)
    assert (several.loss, several.batches) == ("random-projection", 3)
    assert gct.probe(net(), [{"input": x} for x in inputs], batches=3) == several


@pytest.mark.parametrize("verb", [gct.audit, gct.fix, gct.capture, gct.probe], ids=lambda verb: verb.__name__)
def test_every_verb_takes_the_first_batch_of_a_loader(verb: Callable[..., Any]) -> None:
    loader = DataLoader(torch.randn(32, 8), 16)
    verb(net(), loader)


def test_lazy_layers_get_their_size_from_the_first_batch() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2))
    assert gct.probe(model, [x for x, _ in batches(2)], batches=2).batches == 2


def test_a_list_is_the_one_argument_where_one_batch_is_asked_for() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 2)

        def forward(self, xs: list[Tensor]) -> Tensor:
            out: Tensor = self.layer(sum(xs))
            return out

    xs = [torch.randn(4, 8), torch.randn(4, 8)]
    assert gct.probe(Sum(), xs).batches == 1
    assert gct.probe(Sum(), [xs, xs], batches=2).batches == 2


def test_random_inputs_are_drawn_anew_as_if_from_the_next_seeds() -> None:
    model = net()
    drawn = list(drawn_anew(model, for_model(model, seed=3), 2, 3))
    for number, inputs in enumerate(drawn, start=4):
        assert torch.equal(inputs.args[0], for_model(model, seed=number).args[0])
    named = list(drawn_anew(model, from_specs(model, ["input=4x8"], 3), 1, 3))
    assert torch.equal(named[0].kwargs["input"], from_specs(model, ["input=4x8"], 4).kwargs["input"])


def test_an_example_is_one_batch_however_many_are_asked_for() -> None:
    several = gct.probe(net(), torch.randn(16, 8), batches=3)
    assert several.batches == 1
    assert several.reasons[-1] == "measured on 1 batch, not on 3: no more were given"


def test_what_a_model_carries_is_one_batch() -> None:
    model = net()
    model.example_input_array = torch.randn(16, 8)  # type: ignore[assignment]
    assert gct.probe(model, batches=2).batches == 1


def test_too_few_batches_are_used_and_said() -> None:
    several = gct.probe(net(), batches(2), cross_entropy, batches=5)
    assert several.batches == 2
    assert several.reasons[-1] == "measured on 2 batches, not on 5: no more were given"


def test_batches_of_different_sizes_have_no_size_in_common() -> None:
    several = gct.probe(net(), [torch.randn(16, 8), torch.randn(5, 8)], batches=2)
    assert several.batch_size is None
    assert "2 batches, seed 0" in str(several)


def test_single_samples_are_filled_up_for_batch_norm_in_every_batch() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    assert gct.probe(model, [torch.randn(1, 8) for _ in range(2)], batches=2).batch_size == 2


# what cannot be


@pytest.mark.parametrize("verb", [gct.probe, gct.audit, gct.check], ids=lambda verb: verb.__name__)
@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"batches": 0}, "batches is 0; give a whole number from 1 on"),
        ({"seeds": -2}, "seeds is -2; give a whole number from 1 on"),
        ({"batches": 1.5}, "batches is 1.5; give"),
        ({"seeds": True}, "seeds is True; give"),
    ],
    ids=str,
)
def test_counts_are_whole_and_positive(verb: Callable[..., Any], counts: Any, words: str) -> None:
    with pytest.raises(gct.GradtoolError, match=words):
        verb(net(), torch.randn(4, 8), **counts)


def crash() -> Iterator[Tensor]:
    yield torch.randn(4, 8)
    raise OSError("disk gone")


@pytest.mark.parametrize(
    ("example", "options", "words"),
    [
        pytest.param(lambda: iter(()), {}, "example_inputs gives no batch", id="none"),
        pytest.param(lambda: [torch.randn(4, 8), torch.randn(4, 9)], {}, "^batch 2: forward of", id="one does not fit"),
        pytest.param(lambda: [torch.randn(4, 8), 3], {}, "^batch 2 of example_inputs is a int", id="no example"),
        pytest.param(
            lambda: [torch.randn(4, 8)],
            {"loss_fn": mse_loss},
            "^batch 1 of example_inputs is a Tensor, not a pair",
            id="no pair, with a loss",
        ),
        pytest.param(
            lambda: batches(2),
            {"loss_fn": cross_entropy, "targets": torch.zeros(4)},
            "targets are given beside batches",
            id="targets twice",
        ),
        pytest.param(crash, {}, "reading batch 2 of example_inputs .*disk gone", id="the loader raises"),
        pytest.param(
            lambda: [torch.randn(4, 8)], {"input_size": (4, 8)}, "both an example and an input_size", id="a size too"
        ),
    ],
)
def test_errors_are_one_line_and_name_the_batch(example: Callable[[], Any], options: Any, words: str) -> None:
    with pytest.raises(gct.GradtoolError, match=words) as caught:
        gct.probe(net(), example(), batches=2, **options)
    assert "\n" not in str(caught.value)


def test_audit_measures_on_batches_only_if_it_measures() -> None:
    with pytest.raises(gct.GradtoolError, match="add probe"):
        gct.audit(net(), torch.randn(4, 8), batches=2)


# audit and check


def test_a_chains_measured_change_is_the_mean() -> None:
    report = gct.audit(net(), batches(3), loss_fn=cross_entropy, probe=True, batches=3, seeds=2)
    assert report.probe is not None
    assert report.chains[0].measured_decades == pytest.approx(report.probe.measured_decades)
    assert report.probe == gct.probe(net(), batches(3), cross_entropy, batches=3, seeds=2)


def test_check_passes_the_counts_on() -> None:
    report = gct.check(net(), input_size=(16, 8), fail_on="never", probe=True, batches=2, seeds=2)
    assert report.probe is not None
    assert (report.probe.batches, report.probe.seeds) == (2, 2)


# the summary, by hand


def layer(name: str, norm: float | None, **changes: Any) -> LayerGradient:
    return replace(LayerGradient(name, norm, norm, 2.0, 0.5, 0.25, 0.0, 0.1, 1.0, 0.5), **changes)


def run(change: float | None = -1.0, verdict: Verdict = "healthy", **changes: Any) -> GradientProfile:
    first = None if change is None else 10.0**change
    layers = (layer("a", first), layer("b", 1.0))
    profile = GradientProfile(
        verdict, (), "user", 16, 1, 0, layers, change, ("a", "b"), ProbeOutput("tensor", True), 3.0, 2
    )
    return replace(profile, **changes)


def summary(*runs: GradientProfile) -> GradientProfile:
    return summarize(runs, len(runs), 1)


def test_verdicts_are_ranked_as_one_run_is_judged() -> None:
    assert set(WORST_FIRST) == set(get_args(Verdict))


@pytest.mark.parametrize(
    ("verdicts", "verdict", "reasons"),
    [
        (["healthy", "healthy"], "healthy", []),
        (["dead", "dead"], "dead", ["why dead"]),
        (["healthy", "dead", "dead"], "dead", ["why dead", "dead in 2 of 3 runs", "healthy in 1 of 3 runs"]),
        (["healthy", "healthy", "dead"], "healthy", ["healthy in 2 of 3 runs", "dead in 1 of 3 runs: why dead"]),
        (["healthy", "dead"], "dead", ["why dead", "dead in 1 of 2 runs", "healthy in 1 of 2 runs"]),
        (
            ["exploding", "non-finite", "dead"],
            "non-finite",
            [
                "why non-finite",
                "non-finite in 1 of 3 runs",
                "dead in 1 of 3 runs: why dead",
                "exploding in 1 of 3 runs: why exploding",
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_verdict_is_that_of_most_and_at_a_tie_the_worse(verdicts: Any, verdict: str, reasons: Any) -> None:
    runs = [run(verdict=one, reasons=() if one == "healthy" else (f"why {one}",)) for one in verdicts]
    found = summary(*runs)
    assert (found.verdict, list(found.reasons)) == (verdict, reasons)


def test_the_reasons_are_those_of_the_run_nearest_to_the_mean() -> None:
    runs = [run(change, "vanishing", reasons=(f"by {change}",)) for change in (-9.0, -6.0, -4.0)]
    assert summary(*runs).reasons == ("by -6.0",)


def test_the_change_is_taken_over_one_pair_of_layers_in_all_runs() -> None:
    norms = [(1e-2, 1e-1, 1.0, 1.0), (1e-1, 1e-2, 1.0, 1e-3)]
    runs = [
        run(layers=tuple(map(layer, "abcd", values)), measured_over=over, measured_decades=change)
        for values, over, change in zip(norms, [("a", "c"), ("b", "d")], [-2.0, 1.0], strict=True)
    ]
    found = summary(*runs)  # over (a, c): -2 and -1; over (b, d): -1 and +1
    assert found.measured_over == ("a", "c")
    assert found.measured_decades == pytest.approx(-1.5)
    assert found.measured_decades_std == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    ("norms", "mean", "spread"),
    [
        pytest.param((1e-4, 1e-2), 1e-3, math.sqrt(2), id="the geometric mean"),
        pytest.param((0.0, 1e-2), 0.0, None, id="a zero in one run"),
        pytest.param((INF, 1e-2), INF, None, id="infinite in one run"),
        pytest.param((None, 1e-2), 1e-2, None, id="measured in one run"),
        pytest.param((None, None), None, None, id="measured in none"),
    ],
)
def test_norms_and_their_spread(norms: Any, mean: float | None, spread: float | None) -> None:
    found = summary(*(run(layers=(layer("a", norm),)) for norm in norms)).layers[0]
    assert found.grad_norm == pytest.approx(mean)
    assert found.output_grad_norm_decades_std == pytest.approx(spread)


def test_a_layer_that_runs_in_some_runs_is_there_with_its_mean() -> None:
    found = summary(run(), run(layers=(layer("a", 0.1), layer("c", 0.2)))).layers
    assert [entry.name for entry in found] == ["a", "b", "c"]
    assert found[2].grad_norm == 0.2


def test_what_is_no_norm_has_the_arithmetic_mean() -> None:
    low = run(layers=(layer("a", 1.0, activation_mean=-1.0, dead_fraction=0.0),), rank=2.0)
    high = run(layers=(layer("a", 1.0, activation_mean=2.0, dead_fraction=0.5),), rank=4.0)
    found = summary(low, high)
    assert (found.layers[0].activation_mean, found.layers[0].dead_fraction, found.rank) == (0.5, 0.25, 3.0)


def test_the_second_look_and_the_training_are_averaged_too() -> None:
    low = run(stepped=AfterSteps(-1.0, 1e-4, 2.0, 0.5, True), learning=Learning(0.1, True, 4, 4), steps=2)
    high = run(stepped=AfterSteps(-2.0, 1e-2, 4.0, 1.5, False), learning=Learning(0.3, True, 16, 16), steps=1)
    found = summary(low, high)
    assert found.stepped is not None
    assert found.learning is not None
    assert found.stepped.last_spread == pytest.approx(1e-3)
    assert replace(found.stepped, last_spread=None) == AfterSteps(-1.5, None, 3.0, 1.0, False)
    assert (found.learning.explained, found.learning.steps, found.steps) == (pytest.approx(0.2), 16, 2)
    assert summary(low, run()).stepped == low.stepped


def test_an_underflow_in_one_run_is_one_in_the_mean() -> None:
    found = summary(run(-INF, "vanishing"), run(-8.0, "vanishing"))
    assert (found.measured_decades, found.measured_decades_std) == (-INF, None)
    json.dumps(found.to_dict(), allow_nan=False)


# reports


def test_the_text_says_the_spread_and_the_runs() -> None:
    found = replace(summary(run(-4.0), run(-2.0)), batches=1, seeds=2, seed=3)
    text = render(found, "text")
    assert "from b back to a the gradient norm shrinks 1,000-fold (-3.00 ± 1.41 decades)" in text
    assert "± decades" in text
    assert "norms as geometric means of 2 runs; ± is the standard deviation of log10 of the output grad" in text
    assert "one batch of 16, each with seeds 3 to 4" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_verdicts_own_reason_stands_first_when_quiet() -> None:
    found = summary(run(-9.0, "vanishing", reasons=("why",)), run())
    assert render(found, "text", verbosity=QUIET) == "vanishing: why\n"


# the batches of a file


LOADING = """import torch
from torch import nn
from torch.nn.functional import cross_entropy as loss_fn

torch.manual_seed(1)
xs, ys = torch.randn(5, 16, 8), torch.randint(0, 3, (5, 16))
model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "data"):  # of files that other tests have loaded
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("example_batch = list(zip(xs, ys))", id="a list"),
        pytest.param("example_batch = [[x, y] for x, y in zip(xs[:2], ys)]", id="two, as a loader gives them"),
        pytest.param("def example_batch():\n    return zip(xs, ys)", id="a function that returns an iterator"),
        pytest.param("def example_batch():\n    yield from zip(xs, ys)", id="a generator function"),
        pytest.param(
            "from torch.utils.data import DataLoader, TensorDataset\n"
            "example_batch = DataLoader(TensorDataset(xs.flatten(0, 1), ys.flatten()), 16)",
            id="a DataLoader",
        ),
    ],
)
def test_example_batch_gives_batches(example: str, folder: Path) -> None:
    (folder / "model.py").write_text(LOADING + example)
    found = parsed("probe", "--batches", "2", "model.py")
    (folder / "model.py").write_text(LOADING)
    (folder / "data.py").write_text("from model import *\n" + example)
    assert parsed("probe", "--batches", "2", "--inputs-from", "data.py", "model.py")["probe"] == found["probe"]
    assert (found["probe"]["batches"], found["probe"]["loss"], found["inputs"][0]["origin"]) == (2, "user", "file")
    assert found["probe"]["measured_decades_std"] > 0


@pytest.mark.parametrize("command", [["audit"], ["probe"], ["fix", "--insert-bn", "--min-depth", "2"]], ids=" ".join)
def test_every_command_takes_the_first_batch(command: list[str], folder: Path) -> None:
    (folder / "model.py").write_text(LOADING + "def example_batch():\n    yield from zip(xs, ys)")
    several = parsed(*command, "model.py")
    (folder / "model.py").write_text(LOADING + "example_batch = xs[0], ys[0]")
    alone = parsed(*command, "model.py")
    assert (several.get("patch_refused"), alone.get("patch_refused")) == (None, None)
    assert several.get("before", several.get("probe")) == alone.get("before", alone.get("probe"))


@pytest.mark.parametrize("example", ["list(xs)", "iter(xs)", "lambda: (x for x in xs)"])
def test_inputs_from_gives_batches(example: str, folder: Path) -> None:
    (folder / "model.py").write_text(LOADING)
    (folder / "data.py").write_text(f"import torch\nxs = torch.randn(3, 16, 8)\nshown = {example}")
    found = parsed("probe", "--batches", "5", "--inputs-from", "data.py:shown", "model.py")["probe"]
    assert (found["batches"], found["loss"]) == (3, "random-projection")
    assert found["reasons"][-1] == "measured on 3 batches, not on 5: no more were given"


def test_lazy_layers_in_a_file_take_the_first_batch(folder: Path) -> None:
    lazy = LOADING.replace("nn.Linear(8, 8)", "nn.LazyLinear(8)")
    (folder / "model.py").write_text(lazy + "example_batch = list(zip(xs, ys))")
    assert parsed("probe", "--batches", "3", "model.py")["probe"]["batches"] == 3


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ("example_batch = iter(())", "model.py: example_batch gives no batch"),
        ("example_batch = []", "model.py: example_batch gives no batch"),
        ("example_batch = [xs[0], ys[0], 3]", "example_batch is a list of 3, not a pair"),
        ("example_batch = iter(xs)", "model.py: batch 1 of example_batch is a Tensor, not a pair"),
        ("def example_batch():\n    yield xs[0], ys[0]\n    raise OSError('gone')", "reading batch 2 of example_batch"),
    ],
)
def test_batches_of_a_file_that_cannot_be_read(example: str, words: str, folder: Path) -> None:
    (folder / "model.py").write_text(LOADING + example)
    result = invoke("probe", "--batches", "2", "model.py")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert words in result.stderr


# the command line


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(gradtool, [str(argument) for argument in arguments])


def parsed(*arguments: str | Path) -> Any:
    result = invoke(*arguments, "--format", "json")
    assert result.exit_code in (0, 1), result.output
    found = json.loads(result.stdout)
    jsonschema.Draft202012Validator(schemas.load(str(arguments[0]))).validate(found)
    return found


@pytest.mark.parametrize("command", [["probe"], ["audit", "--probe"]], ids=" ".join)
def test_json_of_several_runs_is_valid_and_holds_spreads(command: list[str]) -> None:
    several = ["--batches", "2", "--seeds", "2", "--input", "16x64"]
    found = parsed(*command, *several, EXAMPLES / "deep_sigmoid_mlp.py")["probe"]
    assert (found["batches"], found["seeds"], found["batch_size"], found["verdict"]) == (2, 2, 16, "vanishing")
    assert found["measured_decades_std"] > 0
    assert all(layer["output_grad_norm_decades_std"] > 0 for layer in found["layers"])


def test_json_of_one_run_has_no_spread() -> None:
    found = parsed("probe", EXAMPLES / "shallow_sigmoid_mlp.py")["probe"]
    assert (found["batches"], found["seeds"], found["measured_decades_std"]) == (1, 1, None)
    assert {layer["grad_norm_decades_std"] for layer in found["layers"]} == {None}


def test_exit_codes_follow_the_verdict_of_most() -> None:
    assert invoke("probe", "--seeds", "2", EXAMPLES / "shallow_sigmoid_mlp.py").exit_code == 0
    assert invoke("probe", "--seeds", "2", EXAMPLES / "deep_sigmoid_mlp.py").exit_code == 1


@pytest.mark.parametrize("option", ["--batches", "--seeds"])
@pytest.mark.parametrize("value", ["0", "-3", "two"])
def test_wrong_counts_are_refused(option: str, value: str) -> None:
    result = invoke("probe", option, value, EXAMPLES / "shallow_sigmoid_mlp.py")
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr.splitlines()[-1]


def test_audit_refuses_counts_without_probe_in_one_line() -> None:
    result = invoke("audit", "--seeds", "2", EXAMPLES / "shallow_sigmoid_mlp.py")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "gradtool: error: --batches and --seeds are the probe's; add --probe\n"


def test_progress_goes_through_all_runs() -> None:
    from gradcheck_tool import tasks
    from gradcheck_tool.handed import handed

    told: list[tuple[str, int, int]] = []

    def tell(label: str, done: int, total: int) -> None:
        told.append((label, done, total))

    subject = handed(net(), batches(2), None, 0, cross_entropy, batches=2)
    tasks.probe_subject(subject, batches=2, seeds=2, progress=tell)
    assert told == [*(("probing", done, 4) for done in range(4)), ("done", 4, 4)]
    told.clear()
    subject = handed(net(), None, (16, 8), 0)
    tasks.audit_subject(subject, probe=True, seeds=2, progress=tell)
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4]
    assert {total for *_, total in told} == {4}


class BySize(nn.Module):
    """Large batches go through one layer more."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        return self.out(torch.tanh(self.b(x)) if len(x) > 16 else x)


def test_each_batch_is_measured_as_the_graph_that_it_runs_through() -> None:
    batches = [torch.randn(16, 8), torch.randn(32, 8)]
    profile = gct.audit(BySize(), batches, probe=True, batches=2).probe
    assert profile is not None
    alone = {layer.name: layer for layer in gct.probe(BySize(), batches[1]).layers}
    found = {layer.name: layer for layer in profile.layers}
    assert found.keys() == alone.keys() == {"a", "b", "out"}
    assert found["b"].activation_std is not None
