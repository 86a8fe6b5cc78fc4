"""What holds for every model, tried on random ones."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from random_models import Case, cases
from test_state import unchanged
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import gradcheck_tool as gct

EXAMPLES = settings(
    max_examples=45, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
FEWER = settings(EXAMPLES, max_examples=15)


@EXAMPLES
@given(cases())
def test_audit_probe_and_fix_leave_no_trace(case: Case) -> None:
    model, x = case.model(), case.inputs(5)
    with unchanged(model, x):
        gct.audit(model, x, min_depth=2)
        gct.probe(model, x)
        gct.fix(model, x, min_depth=2)


@FEWER
@given(cases())
def test_equal_seeds_give_equal_reports(case: Case) -> None:
    reports = []
    for noise in (1, 2):
        model, x = case.model(), case.inputs(5)
        torch.manual_seed(noise)
        verbs = (
            gct.audit(model, x, probe=True, min_depth=2),
            gct.probe(model, x, seed=3),
            gct.fix(model, x, min_depth=2),
        )
        reports.append([report.to_dict() for report in verbs])
    assert reports[0] == reports[1]


@EXAMPLES
@given(cases())
def test_a_capture_replays_to_the_models_own_output_at_any_batch_size_in_both_modes(case: Case) -> None:
    graph = gct.capture(case.model(), case.inputs(5))
    for training in (True, False):
        for batch in (5, 3, 8):
            ours, model = copy.deepcopy(graph), case.model()
            if training:
                torch.manual_seed(0)
                found = ours(case.inputs(batch))
                torch.manual_seed(0)
                wanted = model(case.inputs(batch))
            else:
                found, wanted = ours.eval()(case.inputs(batch)), model.eval()(case.inputs(batch))
            assert torch.equal(found, wanted)


def norms_by_autograd(model: nn.Module, x: Tensor, seed: int) -> dict[str, float | None]:
    """The gradient norm of every weight, under the probe's own loss, without any of the probe's code."""
    torch.manual_seed(seed)
    output = model(x)
    generator = torch.Generator().manual_seed(seed)
    cotangent = torch.randn(output.shape, generator=generator, dtype=torch.float32).to(output)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    grads = torch.autograd.grad(output, list(named.values()), cotangent, allow_unused=True)
    return {
        name: None if grad is None else float(torch.linalg.vector_norm(grad.double()))
        for name, grad in zip(named, grads, strict=True)
    }


@EXAMPLES
@given(cases())
def test_the_norms_of_the_probe_are_those_of_autograd(case: Case) -> None:
    profile = gct.probe(case.model(), case.inputs(5), seed=1)
    wanted = norms_by_autograd(case.model(), case.inputs(5), seed=1)
    for layer in profile.layers:
        name = layer.name.split("@")[0]
        norm = wanted.get(f"{name}.weight", wanted.get(name))
        assert (layer.grad_norm is None) == (norm is None)
        assert norm is None or math.isclose(layer.grad_norm, norm, rel_tol=1e-6, abs_tol=1e-30)


def identity_norms(result: Any, old: nn.Module) -> nn.Module:
    """The fixed model, with its new norms set to the identity of evaluation mode."""
    known = {name for name, _ in old.named_modules()}
    for name, module in result.model.named_modules():
        if name not in known and isinstance(module, _BatchNorm):
            module.running_var.fill_(1 - module.eps)
            module.running_mean.zero_()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return result.model.eval()


@EXAMPLES
@given(cases(double=True))
def test_a_fix_changes_nothing_but_the_norms_that_it_inserts(case: Case) -> None:
    model, x = case.model(), case.inputs(5)
    fixed = identity_norms(gct.fix(model, x, min_depth=1), model)
    other = case.inputs(7)
    torch.testing.assert_close(fixed(other), model.eval()(other), rtol=1e-12, atol=1e-12)


@FEWER
@given(cases())
def test_a_fixed_model_needs_no_more_fixing(case: Case) -> None:
    result = gct.fix(case.model(), case.inputs(5), min_depth=2)
    again = gct.fix(result.model, case.inputs(5), min_depth=2)
    assert again.plan == ()


@FEWER
@given(cases())
def test_a_fixed_model_keeps_its_keys_copies_pickles_and_takes_other_batches(case: Case) -> None:
    model = case.model()
    fixed = gct.fix(model, case.inputs(5), min_depth=2).model
    state = fixed.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    x = case.inputs(7)
    torch.manual_seed(0)
    wanted = copy.deepcopy(fixed)(x)
    for twin in (copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed))):
        torch.manual_seed(0)
        assert torch.equal(twin(x), wanted)
        assert twin.eval()(case.inputs(1)).shape == (1, 3)


def test_the_strategy_builds_what_it_says() -> None:
    kinds = set()

    @EXAMPLES
    @given(cases())
    def look(case: Case) -> None:
        kinds.update(step for step, _ in case.plan.steps)
        kinds.add("images" if case.plan.image else "features")
        assert case.model()(case.inputs(4)).shape == (4, 3)

    look()
    assert {"images", "features", "residual", "gate", "functional block", "shared block", "noise"} <= kinds
