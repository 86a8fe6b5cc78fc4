"""What outputs explain of a loss, as they are and at their best scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from gradcheck_tool.probing.explained import LossOf, explained, explained_at_best

SAMPLES, CLASSES = 40, 5


def outputs(signal: float = 2.0) -> tuple[Tensor, Tensor]:
    """Outputs that tell the classes apart, not always rightly, and are larger for some of these than for others."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    noise = torch.randn(SAMPLES, CLASSES, generator=generator)
    return signal * nn.functional.one_hot(y, CLASSES) + noise + torch.linspace(0.0, 1.0, CLASSES), y


def against(y: Tensor) -> LossOf:
    return lambda output: cross_entropy(output, y)


def test_outputs_are_held_against_their_mean() -> None:
    output, y = outputs()
    found = explained(output, against(y), SAMPLES)
    assert found is not None
    mean = cross_entropy(output.mean(0, keepdim=True).expand_as(output), y)
    assert found.share == pytest.approx(1 - float(cross_entropy(output, y) / mean), rel=1e-5)


def test_outputs_are_held_against_zeros_where_these_do_better() -> None:
    output, y = outputs()
    output = output + 30 * torch.arange(CLASSES)  # all would be of the last class, were it not for the samples' own
    own = 200 * nn.functional.one_hot(y, CLASSES) * (torch.arange(SAMPLES) % 4 > 0)[:, None]
    found = explained(output + own, against(y), SAMPLES)
    assert found is not None
    assert found.common == pytest.approx(math.log(CLASSES), rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e9, 1e30])
@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_at_its_best_the_scale_of_outputs_and_of_the_loss_does_not_count(scale: float, factor: float) -> None:
    output, y = outputs()
    scales = torch.logspace(-4, 0, 4001)

    def least(of: Tensor) -> float:
        return min(float(cross_entropy(one * of, y)) for one in scales)

    wanted = 1 - least(4 * output) / least(4 * output.mean(0, keepdim=True).expand_as(output))
    found = explained_at_best(4 * scale * output, lambda given: factor * cross_entropy(given, y), SAMPLES)
    assert found is not None
    assert found.share == pytest.approx(wanted, abs=0.01)
    assert found.loss == pytest.approx(factor * least(4 * output), rel=0.01)


def test_outputs_are_not_made_larger() -> None:
    output, y = outputs()
    small = explained_at_best(1e-3 * output, against(y), SAMPLES)
    assert small is not None
    assert 0 <= small.share < 0.01


def test_outputs_that_tell_nothing_explain_nothing_at_any_scale() -> None:
    output, y = outputs()
    same = output.mean(0, keepdim=True).expand_as(output).contiguous()
    found = explained_at_best(1e5 * same, against(y), SAMPLES)
    assert found is not None
    assert found.share == pytest.approx(0.0, abs=1e-6)


def test_a_loss_of_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(SAMPLES, 1, generator=generator)
    output = 50 * y + torch.randn(SAMPLES, 1, generator=generator)
    found = explained_at_best(output, lambda given: mse_loss(given, y), SAMPLES)
    assert found is not None
    assert found.share == pytest.approx(0.999, abs=0.002)
    plain = explained(output, lambda given: mse_loss(given, y), SAMPLES)
    assert plain is not None
    assert plain.share < -100


@pytest.mark.parametrize("shape", [(SAMPLES,), (SAMPLES, 1), (SAMPLES, 3, 2)], ids=str)
def test_outputs_of_any_shape(shape: tuple[int, ...]) -> None:
    y = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = explained(0.5 * y, lambda given: mse_loss(given, y), SAMPLES)
    assert found is not None
    assert found.share == pytest.approx(0.75, abs=0.02)


def test_of_several_outputs_those_with_a_row_for_each_sample_count() -> None:
    output, y = outputs()
    both = {"logits": output, "temperature": torch.tensor(2.0)}
    found = explained(both, lambda given: cross_entropy(given["logits"] / given["temperature"], y), SAMPLES)
    wanted = explained(output / 2, against(y), SAMPLES)
    assert found is not None
    assert wanted is not None
    assert found.share == pytest.approx(wanted.share, rel=1e-6)


def test_where_zeros_are_perfect_no_scale_is_sought() -> None:
    """The logarithms of probabilities: nearer to zero they have less loss, and are none any more."""
    output, y = outputs()
    logarithms = output.log_softmax(1)
    given = (logarithms, lambda of: nn.functional.nll_loss(of, y), SAMPLES)
    assert explained_at_best(*given) == explained(*given)


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        pytest.param(torch.tensor(1.0), lambda of: of.square(), id="a number for all samples"),
        pytest.param(torch.ones(SAMPLES).long(), lambda of: of.double().mean(), id="classes"),
        pytest.param(torch.ones(SAMPLES, 2), lambda of: of.mean() - 9, id="a negative loss"),
        pytest.param(torch.ones(SAMPLES, 2), lambda of: of.mean() * math.nan, id="no number"),
    ],
)
def test_what_is_not_defined(output: Tensor, loss: LossOf) -> None:
    assert explained(output, loss, SAMPLES) is None
