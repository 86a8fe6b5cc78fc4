"""The library: what the verbs take, what they give back, and how they refuse."""

from __future__ import annotations

import dataclasses
import inspect
import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import gradcheck_tool as gct

WIDTH = 16


def plain(depth: int = 5, width: int = WIDTH) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.Sigmoid())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


class Two(nn.Module):
    """Takes two tensors, the second by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = plain(), nn.Linear(3, 4)

    def forward(self, x: Tensor, extra: Tensor) -> Tensor:
        return self.a(x) + self.b(extra)


def vectors(count: int = 8) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(1))


VERBS = [
    pytest.param(gct.audit, id="audit"),
    pytest.param(gct.probe, id="probe"),
    pytest.param(gct.fix, id="fix"),
    pytest.param(gct.capture, id="capture"),
    pytest.param(partial(gct.check, fail_on="never"), id="check"),
]
Verb = Callable[..., Any]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("build", "inputs", "options"),
    [
        pytest.param(plain, vectors(), {}, id="a tensor is the one argument"),
        pytest.param(Two, (vectors(), torch.randn(8, 3)), {}, id="a tuple is the arguments"),
        pytest.param(Two, {"x": vectors(), "extra": torch.randn(8, 3)}, {}, id="a dict is the keyword arguments"),
        pytest.param(plain, None, {"input_size": (8, WIDTH)}, id="a size instead"),
        pytest.param(Two, None, {"input_size": [(8, WIDTH), (8, 3)]}, id="several sizes instead"),
        pytest.param(plain, None, {}, id="nothing: what the first layers tell"),
    ],
)
def test_every_verb_takes(verb: Verb, build: Callable[[], nn.Module], inputs: Any, options: dict[str, Any]) -> None:
    assert verb(build(), inputs, **options) is not None


@pytest.mark.parametrize(
    ("verb", "promised"),
    [
        pytest.param(gct.audit, ["model", "example_inputs"], id="audit"),
        pytest.param(gct.probe, ["model", "example_inputs", "loss_fn", "targets"], id="probe"),
        pytest.param(gct.fix, ["model", "example_inputs", "norm"], id="fix"),
        pytest.param(gct.capture, ["model", "example_inputs"], id="capture"),
        pytest.param(gct.check, ["model", "example_inputs"], id="check"),
    ],
)
def test_the_positional_parameters_are_those_promised(verb: Verb, promised: list[str]) -> None:
    parameters = inspect.signature(verb).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == promised


@pytest.mark.parametrize("verb", [*VERBS[:3], VERBS[4]])
def test_what_comes_back_is_frozen_and_prints_as_its_report(verb: Verb) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        report = verb(plain(), vectors())
    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert dataclasses.is_dataclass(report)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.seed = 5
    assert "Sequential" in str(report) or "gradient" in str(report)
    assert isinstance(report.to_dict(), dict)


def test_the_captured_graph_computes_what_the_model_computes_with_its_parameters() -> None:
    model, x = plain(), vectors()
    graph = gct.capture(model, x)
    assert isinstance(graph, fx.GraphModule)
    assert torch.equal(graph(vectors(3)), model(vectors(3)))
    assert {id(p) for p in graph.parameters()} == {id(p) for p in model.parameters()}


# models that come wrapped, or unfinished


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(nn.DataParallel, id="DataParallel"),
        pytest.param(torch.compile, id="torch.compile"),
        pytest.param(lambda model: torch.compile(nn.DataParallel(model)), id="torch.compile around DataParallel"),
    ],
)
def test_a_wrapped_model_is_the_model_within(verb: Verb, wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert str(verb(wrap(plain()), vectors())) == str(verb(plain(), vectors()))


@pytest.mark.parametrize("verb", VERBS)
def test_lazy_layers_get_their_size_in_a_copy(verb: Verb) -> None:
    layers = [part for _ in range(5) for part in (nn.LazyLinear(WIDTH), nn.Tanh())]
    model = nn.Sequential(*layers, nn.LazyLinear(2))
    assert verb(model, vectors()) is not None
    assert all(nn.parameter.is_lazy(parameter) for parameter in model.parameters())


# refusals


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(Two, r"model is the class Two itself: pass an instance, as Two\(\)", id="a class"),
        pytest.param(lambda x: x, "model is a function, not a torch.nn.Module", id="a function"),
        pytest.param(None, "model is a NoneType", id="nothing"),
    ],
)
def test_what_is_no_model_is_a_type_error(verb: Verb, model: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        verb(model, vectors())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("build", "inputs", "message"),
    [
        pytest.param(plain, torch.randn(8, WIDTH + 1), f"8x{WIDTH + 1}", id="inputs of the wrong shape"),
        pytest.param(plain, [1, 2], "without a tensor", id="inputs without a tensor"),
        pytest.param(nn.ReLU, vectors(), "has no parameters", id="a model without parameters"),
        pytest.param(Two, vectors(), "extra", id="an argument that is missing"),
    ],
)
def test_what_does_not_run_is_refused_in_one_line(verb: Verb, build: Any, inputs: Any, message: str) -> None:
    with pytest.raises(gct.GradtoolError, match=message) as caught:
        verb(build(), inputs)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.hint


def test_an_unknown_norm_is_a_value_error_that_names_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"norm is 'bach', none of auto, batch, layer"):
        gct.fix(plain(), vectors(), norm="bach")  # type: ignore[arg-type]


def test_one_sample_with_targets_cannot_be_doubled_so_its_layers_are_skipped() -> None:
    result = gct.fix(plain(), vectors(1), loss_fn=nn.functional.cross_entropy, targets=torch.tensor([1]))
    assert result.plan == ()
    assert len(result.skipped) == 5
    assert "two samples" in result.skipped[0].reason


# check


@pytest.mark.parametrize(
    ("fail_on", "raises"),
    [("note", True), ("warning", True), ("error", False), ("never", False)],
    ids=str,
)
def test_check_raises_with_the_report_from_the_severity_on_that_is_asked(fail_on: str, raises: bool) -> None:
    model, x = plain(4), vectors()
    severity = gct.audit(model, x).findings[0].severity
    assert severity == "warning"
    if raises:
        with pytest.raises(gct.GradientHealthError) as caught:
            gct.check(model, x, fail_on=fail_on)
        assert caught.value.report.findings
        assert str(caught.value) == str(caught.value.report)
    else:
        assert gct.check(model, x, fail_on=fail_on).findings


def test_check_takes_the_options_of_audit() -> None:
    assert gct.check(plain(), vectors(), min_depth=9).ok
    assert gct.check(plain(), vectors(), ignore=["GT001"]).ok


# a fix with nothing to do


def test_where_there_is_nothing_to_fix_the_result_says_so_and_holds_the_model() -> None:
    model, x = plain(2), vectors()
    result = gct.fix(model, x)
    assert (result.plan, result.improved, result.diff, result.written) == ((), None, "", None)
    assert result.before == result.after
    assert torch.equal(result.model(x), model(x))
    assert result.model.get_parameter("0.weight") is not model[0].weight
