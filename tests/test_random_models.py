"""What holds for every model, tried on random ones: 100 of them, and 1,000 with `--hypothesis-profile=long`.

Each model goes through every property in turn. The features that the models had are counted and printed.
"""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from random_features import FEATURES
from random_layers import Shape
from random_models import Case, Plan, cases
from test_state import unchanged
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import gradcheck_tool as gct
from gradcheck_tool import auditing
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.base import Case as RemedyCase
from gradcheck_tool.remedy.shortcuts import AddShortcuts
from gradcheck_tool.state import preserved
from gradcheck_tool.structures import tensors_in

MODELS = settings.default.max_examples
EXAMPLES = settings(
    settings.default,
    max_examples=MODELS * 3 // 2,  # some are drawn twice
    derandomize=MODELS <= 100,  # the longer profile looks at other models each time
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
DEPTH = 2
"""Chains of two blocks are fixed, so that nearly every model has something to fix."""


def seeded(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def put(model: nn.Module, training: bool) -> nn.Module:
    """`model` in a mode; parts in another mode stay where the model itself is in the one asked for."""
    return model if model.training == training else model.train(training)


def outputs(model: nn.Module, inputs: tuple[Tensor, ...], seed: int = 0) -> list[Tensor]:
    seeded(seed)
    return list(tensors_in(model(*inputs)))


def equal(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return len(found) == len(wanted) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, wanted, strict=True)
    )


# -- the properties ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def fix_of(case: Case) -> gct.FixResult:
    """Which several properties look at and none changes."""
    return gct.fix(case.model(), case.inputs(5), min_depth=DEPTH)


def leaves_no_trace_and_gives_equal_reports(case: Case) -> None:
    model, inputs = case.model(), case.inputs(5)
    seeded(1)
    with unchanged(model, inputs):
        audit = gct.audit(model, inputs, probe=True, min_depth=DEPTH)
        first = [audit.to_dict(), gct.fix(model, inputs, min_depth=DEPTH).to_dict()]
        profile = gct.probe(model, inputs)
    seeded(2)
    again = gct.audit(case.model(), case.inputs(5), probe=True, min_depth=DEPTH), fix_of(case)
    assert first == [one.to_dict() for one in again], "equal seeds give equal reports"
    assert profile.to_dict() == first[0]["probe"], "probe measures what audit --probe does"


def run(
    model: nn.Module, inputs: tuple[Tensor, ...], known: set[str] | None = None
) -> tuple[list[Tensor], list[Tensor | None], list[Tensor]]:
    """Outputs, gradients of the inputs and the parameters, and the buffers after forward (those `known`)."""
    for tensor in inputs:
        tensor.requires_grad_()
    given = outputs(model, inputs)
    buffers = [b.clone() for name, b in sorted(model.named_buffers()) if known is None or name in known]
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    leaves = [*inputs, *(parameters[name] for name in sorted(parameters))]
    grads = torch.autograd.grad(sum(tensor.double().square().sum() for tensor in given), leaves, allow_unused=True)
    return given, list(grads), buffers


def replays(case: Case) -> None:
    """In the modes that the model is in, and as a whole in the other, at any batch size: bit for bit what the model
    gives, with its gradients and its buffers."""
    graph = gct.capture(case.model(), case.inputs(5))
    known = {name for name, _ in case.model().named_buffers()}
    for training in (True, False):
        for batch in (5, 3, 8):
            model = put(case.model(), training)
            wanted, wanted_grads, buffers = run(model, case.inputs(batch))
            with preserved(graph, values=True):  # no copy: torch copies no hooks of parameters
                found, grads, after = run(put(graph, training), case.inputs(batch), known)
            assert equal(found, wanted), f"the graph replays to the model's output ({training=}, {batch=})"
            assert equal(after, buffers), f"the graph leaves the model's buffers ({training=}, {batch=})"
            for grad, wanted_grad in zip(grads, wanted_grads, strict=True):
                # What flows into one tensor from several sides is added up in any order.
                torch.testing.assert_close(grad, wanted_grad, **tolerance(case, wanted_grads))


def tolerance(case: Case, grads: list[Tensor | None]) -> dict[str, float]:
    """Sums in another order: some ulps of the largest figures that are added."""
    largest = max((float(grad.abs().max()) for grad in grads if grad is not None and grad.numel()), default=1.0)
    relative = {"float64": 1e-12, "float32": 1e-4, "bfloat16": 5e-2}[case.plan.dtype]
    return {"rtol": relative, "atol": relative * max(largest, 1e-30)}


@contextmanager
def output_gradients(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collects the outputs of weight layers, call by call; what follows gets copies, so that it may work in place."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):

            def keep(module: nn.Module, args: Any, output: Tensor, name: str = name) -> Tensor:
                seen[name].append(output)
                return output.clone()

            handles.append(module.register_forward_hook(keep))
    yield seen
    for handle in handles:
        handle.remove()


def probes_as_autograd_does(case: Case) -> None:
    profile = gct.probe(case.model(), case.inputs(5), seed=1)
    model = put(case.model(), True)
    with output_gradients(model) as calls:
        roots = [tensor for tensor in outputs(model, case.inputs(5), seed=1) if tensor.requires_grad]
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(root.shape, generator=generator).to(root) for root in roots]
    named = {name: p for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    at = {
        f"{name}@{count}" if count > 1 else name: tensor
        for name, tensors in calls.items()
        for count, tensor in enumerate(tensors, start=1)
        if tensor.requires_grad
    }
    leaves: dict[str, Tensor] = {f"parameter {name}": parameter for name, parameter in named.items()}
    leaves |= {f"call {name}": tensor for name, tensor in at.items()}
    found = torch.autograd.grad(roots, list(leaves.values()), cotangents, allow_unused=True)
    grads = dict(zip(leaves, found, strict=True))
    for layer in profile.layers:
        name = layer.name.split("@")[0]
        owned = [f"parameter {name}{end}" for end in ("", ".weight", ".weight_g", ".weight_v")]
        owned += [key for key in grads if key.startswith(f"parameter {name}.parametrizations.weight.")]
        assert close(layer.grad_norm, [grads[key] for key in owned if key in grads]), f"grad_norm of {layer.name}"
        if f"call {layer.name}" in grads:
            wanted = [grads[f"call {layer.name}"]]
            assert close(layer.output_grad_norm, wanted), f"output_grad_norm of {layer.name}"


def close(figure: float | None, grads: list[Tensor | None]) -> bool:
    """Whether a figure of the probe is the norm of `grads`. Both come of the same operations in the same order: even in
    bfloat16 nothing but the order of the last sum differs."""
    there = [grad for grad in grads if grad is not None]
    if figure is None or not there:
        return (figure is None) == (not there)
    wanted = math.hypot(*(float(torch.linalg.vector_norm(grad.double())) for grad in there))
    return math.isclose(figure, wanted, rel_tol=1e-6, abs_tol=1e-30)


def inserts_nothing_but_norms(case: Case) -> None:
    """In float64 whatever the model's own precision: 1e-12 means nothing in float32."""
    model = case.model("float64")
    result = gct.fix(model, case.inputs(5, "float64"), min_depth=1)
    fixed, old = put(result.model, False), {name for name, _ in model.named_modules()}
    new = [module for name, module in fixed.named_modules() if name not in old and isinstance(module, _BatchNorm)]
    assert len(new) == len(result.plan), "each insertion is one new norm"
    for norm in new:
        norm.eval()
        norm.running_var.fill_(1 - norm.eps)
        norm.running_mean.zero_()
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
    other = case.inputs(7, "float64")
    found, wanted = outputs(fixed, other), outputs(put(case.model("float64"), False), other)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def can_be_pickled(model: nn.Module) -> bool:
    """torch refuses to pickle a parametrized layer, in any model."""
    return not any(hasattr(module, "parametrizations") for module in model.modules())


def is_a_model_like_any_other(case: Case) -> None:
    """It keeps the keys, trains, copies, pickles, takes other batch sizes, and needs no more fixing."""
    model = case.model()
    fixed = copy.deepcopy(fix_of(case).model)
    state = fixed.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items()), "the fixed keeps the keys"
    again = gct.fix(fixed, case.inputs(5), min_depth=DEPTH)
    assert again.plan == (), "fixing a fixed model plans nothing"
    twins = [copy.deepcopy(fixed), *([pickle.loads(pickle.dumps(fixed))] if can_be_pickled(model) else [])]
    wanted = outputs(copy.deepcopy(fixed), case.inputs(7))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in wanted), "the fixed model's output is finite"
    for twin in twins:
        assert equal(outputs(twin, case.inputs(7)), wanted), "a copy or pickle computes the same"
        outputs(twin.eval(), case.inputs(1))
    trains(case, fixed.train())


def trains(case: Case, fixed: nn.Module) -> None:
    """Every parameter that gets a gradient in the model gets one in the fixed model, and so does every new norm; a step
    moves them."""
    model = put(case.model(), True)
    before = {name: parameter.detach().clone() for name, parameter in fixed.named_parameters()}
    for one in (model, fixed):
        one.zero_grad()
        sum(tensor.double().square().sum() for tensor in outputs(one, case.inputs(6))).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    reached |= before.keys() - dict(model.named_parameters()).keys()
    assert {name for name, p in fixed.named_parameters() if p.grad is not None} == reached, "the same parameters train"
    torch.optim.SGD(fixed.parameters(), lr=0.1, foreach=False).step()
    for name, parameter in fixed.named_parameters():
        moves = parameter.grad is not None and bool((parameter.grad.abs() > 0.05 * before[name].abs()).any())
        assert not moves or not torch.equal(parameter, before[name]), f"a step moves {name}"
    assert all(bool(torch.isfinite(tensor).all()) for tensor in outputs(fixed, case.inputs(3)))


def takes_shortcuts(case: Case) -> None:
    """Around the blocks where they can lead: nothing of the model is changed, and the net that comes of it trains, is
    copied and takes other batch sizes."""
    model, inputs = case.model(), case.inputs(5)
    with unchanged(model, inputs):
        given = for_model(model, inputs, None, 0)
        read = RemedyCase(model, given, auditing.read(model, given).structure, 1)
        plan = AddShortcuts().plan(read)
        fixed = AddShortcuts().apply(gct.capture(model, inputs), plan, read)
    new = fixed.state_dict().keys() - model.state_dict().keys()
    assert len(new) == len(plan.steps), "each shortcut has one factor"
    wanted = outputs(copy.deepcopy(fixed), case.inputs(7))
    assert equal(outputs(copy.deepcopy(fixed), case.inputs(7)), wanted)
    sum(tensor.double().square().sum() for tensor in outputs(fixed.train(), case.inputs(6))).backward()
    assert all(fixed.get_parameter(name).grad is not None for name in new), "each factor gets a gradient"
    outputs(fixed.eval(), case.inputs(1))


PROPERTIES: tuple[Callable[[Case], None], ...] = (
    leaves_no_trace_and_gives_equal_reports,
    replays,
    probes_as_autograd_does,
    inserts_nothing_but_norms,
    is_a_model_like_any_other,
    takes_shortcuts,
)


# -- the models --------------------------------------------------------------------------------------------------------

_SEQUENCE, _IMAGE = Shape(2, (5,), False), Shape(3, (6, 3), True)
_VECTOR = Shape(6, (), False)
FOUND: dict[str, tuple[Shape, bool, list[tuple[str, int, str | None]]]] = {
    "a Linear on sequences, whose output is a view, before an activation in place": (
        _SEQUENCE,
        True,
        [("statement", 13, None)],
    ),
    "a layer with spectral norm that is called twice": (_IMAGE, True, [("shared", 16, "spectral norm")]),
    "a frozen layer behind a norm that is not": (_IMAGE, True, [("norm", 21, None), ("block", 0, "frozen")]),
    "a layer that takes no norm, before a fork": (_IMAGE, True, [("block", 0, "spectral norm"), ("branches", 5, None)]),
    "a gradient of zero beneath a layer with spectral norm": (
        _VECTOR,
        True,
        [("attention", 13, None), ("shared", 0, "spectral norm")],
    ),
    "a part in training in a model in evaluation, which does other things in training": (
        _VECTOR,
        False,
        [("dropout", 18, "train"), ("buffer", 23, None)],
    ),
}
"""What random models have found once."""


@pytest.mark.filterwarnings("ignore")  # torch's, about old ways of weight norm and hooks beside in-place operations
@pytest.mark.parametrize(("shape", "training", "steps"), FOUND.values(), ids=FOUND)
def test_every_property_holds_where_one_once_did_not(
    shape: Shape, training: bool, steps: list[tuple[str, int, str | None]]
) -> None:
    for seed in (0, 1):
        for holds in PROPERTIES:
            holds(Case(Plan(tuple(steps), shape, "float32", training, False, "tensor", seed)))


@pytest.mark.filterwarnings("ignore")
def test_every_property_holds_for_every_random_model(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    models: set[Case] = set()

    @EXAMPLES
    @given(cases())
    def check(case: Case) -> None:
        if case in models or len(models) >= MODELS:
            return
        for holds in PROPERTIES:
            holds(case)
        models.add(case)
        counts.update(case.features)

    try:
        check()
    finally:
        shares = [f"{name} {counts[name]}" for name in FEATURES]
        with capsys.disabled():
            print(f"\n{len(models)} random models; with a", ", ".join(shares))
    assert len(models) >= MODELS
    assert [name for name in FEATURES if counts[name] < 0.05 * len(models)] == []
