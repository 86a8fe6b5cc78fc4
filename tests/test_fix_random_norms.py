"""What holds for every norm in every model, tried on random ones: 40 of them, and 1,000 with
`--hypothesis-profile=long`."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_models import Case, cases
from test_random_models import can_be_pickled, equal, outputs, put

import gradcheck_tool as gct
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.remedy.insert_norm import KINDS, NormKind

LONG = settings.default.max_examples > 100
EXAMPLES = settings(
    settings.default,
    max_examples=settings.default.max_examples if LONG else 40,
    derandomize=not LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def keeps_its_promises(case: Case, kind: NormKind) -> Counter[str]:
    """It keeps the keys, takes other batch sizes, copies, pickles, needs no more fixing. Returns its new norms."""
    model = case.model()
    result = gct.fix(model, case.inputs(9), norm=kind, min_depth=1)
    fixed, state = result.model, result.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    again = gct.fix(fixed, case.inputs(9), norm=kind, min_depth=1)
    assert again.plan == ()
    assert {skip.layer for skip in again.skipped} <= {skip.layer for skip in result.skipped}
    for training in (True, False):
        put(fixed, training)
        wanted = outputs(copy.deepcopy(fixed), case.inputs(7))
        assert [tensor.shape for tensor in wanted] == [t.shape for t in outputs(case.model(), case.inputs(7))]
        assert equal(outputs(copy.deepcopy(fixed), case.inputs(7)), wanted)
        if can_be_pickled(model):
            assert equal(outputs(pickle.loads(pickle.dumps(fixed)), case.inputs(7)), wanted)
    return Counter(entry.norm.rstrip("123d") for entry in result.plan)


def keeps_its_function(case: Case) -> None:
    """In float64, whatever the model's own precision: 1e-5 of float32 can grow on the way through a model."""
    try:
        result = gct.fix(case.model("float64"), case.inputs(9, "float64"), min_depth=1, keep_function=True)
    except GradtoolError as error:
        assert "not finite" in str(error)  # noqa: PT017 (whether it raises hangs on the model)
        return
    assert result.function_change is None or result.function_change <= 1e-11
    found = outputs(result.model.eval(), case.inputs(7, "float64"))
    wanted = outputs(case.model("float64").eval(), case.inputs(7, "float64"))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore")  # torch's, about old ways of weight norm and hooks beside in-place operations
def test_every_norm_keeps_its_promises_in_every_random_model(capsys: pytest.CaptureFixture[str]) -> None:
    norms: Counter[str] = Counter()

    @EXAMPLES
    @given(cases(), st.sampled_from(sorted(KINDS)))
    def check(case: Case, kind: NormKind) -> None:
        norms.update(keeps_its_promises(case, kind))
        keeps_its_function(case)

    try:
        check()
    finally:
        with capsys.disabled():
            print("\nnorms in random models:", ", ".join(f"{name} {count}" for name, count in norms.items()))
    assert set(norms) == {"BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm"}
