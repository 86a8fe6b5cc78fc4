"""Layer-sequential unit variance: every layer's output has it, whatever the inputs' scale, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from architectures import Net
from test_remedy_reinit import IMAGES, VECTORS, bits, case_for, mlp, planned, remedied, tied
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.capturing import capture
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.remedy.base import Plan
from gradcheck_tool.remedy.lsuv import LayerSequentialUnitVariance

LSUV = LayerSequentialUnitVariance()


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each weight layer puts out, by its name; of a layer called twice the first."""
    found: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        found.setdefault(name, output)

    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(partial(keep, name))
    with torch.no_grad():
        model(x)
    return found


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.ConvTranspose2d(8, 8, 2, 2), nn.Sigmoid(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 2))


def twice() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.out(F.relu(net.b(F.relu(net.a(F.relu(net.b(F.relu(net.a(x)))))))))

    return Net(forward, a=nn.Linear(32, 32), b=nn.Linear(32, 32), out=nn.Linear(32, 4))


@pytest.mark.parametrize("centre", [None, True, False])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 25500.0])
@pytest.mark.parametrize(
    ("build", "x"),
    [(lambda: mlp(nn.ReLU), VECTORS), (lambda: mlp(nn.Sigmoid), VECTORS), (convolutions, IMAGES), (twice, VECTORS)],
    ids=["ReLU", "sigmoid", "convolutions", "called twice"],
)
def test_every_output_has_unit_variance(
    build: Callable[[], nn.Module], x: Tensor, scale: float, centre: bool | None
) -> None:
    fixed = remedied(build(), scale * x, LayerSequentialUnitVariance(centre=centre))
    for output in outputs(fixed, scale * x).values():
        assert float(output.std(correction=0)) == pytest.approx(1.0, rel=1e-3)  # the paper has a tolerance of 0.1


def test_centred_units_have_mean_zero_and_none_is_dead() -> None:
    fixed = remedied(mlp(nn.ReLU), VECTORS.abs(), LayerSequentialUnitVariance(centre=True))
    for output in list(outputs(fixed, VECTORS.abs()).values()):
        assert torch.allclose(output.mean(0), torch.zeros(()), atol=1e-4)
        assert bool((output > 0).any(0).all())


def test_behind_sigmoid_biases_centre_and_behind_relu_they_are_zero() -> None:
    assert [step.centred for step in planned(mlp(nn.Sigmoid, 4), VECTORS, LSUV).steps] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert not any(step.centred for step in planned(mlp(nn.ReLU, 4), VECTORS, LSUV).steps)


def test_gradient_passes_a_deep_sigmoid_net() -> None:
    model = mlp(nn.Sigmoid, 15)
    assert gct.probe(model, VECTORS).verdict == "vanishing"
    assert gct.probe(remedied(model, VECTORS, LSUV), VECTORS).verdict == "healthy"


def test_functional_layers() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        seen.clear()
        x = F.linear(x, net.a, net.bias)
        seen.append(x)
        for weight in (net.b, net.c, net.d):
            x = F.relu(x) @ weight
            seen.append(x)
        return F.relu(x) @ net.e

    seen: list[Tensor] = []
    parameters = {name: nn.Parameter(torch.randn(32, 32)) for name in "abcde"}
    model = Net(forward, bias=nn.Parameter(torch.ones(32)), **parameters)
    fixed = remedied(model, VECTORS, LSUV)
    for name, _ in parameters.items():
        setattr(model, name, fixed.get_parameter(name))
    model.bias = fixed.bias
    model(VECTORS)
    assert [float(output.detach().std(correction=0)) for output in seen] == pytest.approx([1.0] * 4, rel=1e-3)


def test_in_place_activations() -> None:
    fixed = remedied(mlp(lambda: nn.ReLU(inplace=True)), VECTORS, LSUV)
    assert gct.probe(fixed, VECTORS).verdict == "healthy"


def test_layers_in_front_of_a_norm_and_shallow_nets_are_left_alone() -> None:
    assert planned(mlp(nn.ReLU, 3), VECTORS, LSUV) == Plan()
    model = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), *mlp(nn.ReLU, 4))
    assert "0" not in [step.layer for step in planned(model, VECTORS, LSUV).steps]


def test_tied_layers_are_skipped() -> None:
    assert {skip.layer for skip in planned(tied(), VECTORS, LSUV).skipped} == {"2"}


def test_model_statistics_and_random_state_stay_as_they_were() -> None:
    model = nn.Sequential(*mlp(nn.ReLU), nn.BatchNorm1d(10), nn.Dropout(0.5))
    before, state = bits(model), torch.get_rng_state()
    case = case_for(model, VECTORS)
    captured = capture(model, case.inputs)[0]
    fixed = LSUV.apply(captured, LSUV.plan(case), case)
    assert torch.get_rng_state().equal(state)
    assert all(tensor.equal(before[name]) for name, tensor in captured.state_dict().items())
    assert list(fixed.state_dict()) == list(before)
    assert int(fixed.get_buffer("17.num_batches_tracked")) == 0
    assert len(list(fixed.modules())) == len(list(captured.modules()))
    again = LSUV.apply(captured, LSUV.plan(case), case)
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in fixed.state_dict().items())


def test_constant_outputs_are_left_as_drawn() -> None:
    fixed = remedied(mlp(nn.ReLU), torch.zeros(8, 32), LSUV)
    assert all(bool(parameter.isfinite().all()) for parameter in fixed.parameters())


def test_models_on_meta_are_refused() -> None:
    with torch.device("meta"):
        model = mlp(nn.ReLU)
    case = case_for(model, VECTORS.to("meta"))
    assert not LSUV.plan(case).steps
    with pytest.raises(GradtoolError, match="meta device"):
        LSUV.apply(capture(model, case.inputs)[0], Plan(), case)
