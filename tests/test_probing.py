"""The figures of the probe against an independent computation with torch.autograd.grad, and what it leaves behind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

import gradcheck_tool as gct
from gradcheck_tool.probing.magnitudes import norm

WIDTH = 12


def cotangent(shape: torch.Size, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """The random projection that the probe documents: standard normal numbers, drawn from the seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def figures(model: nn.Module, inputs: Any, **options: Any) -> dict[str, gct.LayerGradient]:
    return {layer.name: layer for layer in gct.probe(model, inputs, **options).layers}


def size(tensor: Tensor) -> float:
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return float(tensor.detach().to(wide).norm())


# norms against torch.autograd.grad


class Modules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, 7), nn.Linear(7, 3)

    def calls(self, x: Tensor) -> dict[str, Tensor]:
        z = self.a(x)
        return {"a": z, "b": self.b(torch.tanh(z))}


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(WIDTH, 7))
        self.bias = nn.Parameter(torch.zeros(7))
        self.b = nn.Parameter(torch.randn(3, 7))

    def calls(self, x: Tensor) -> dict[str, Tensor]:
        product = x @ self.W
        return {"W": product, "b": F.linear(torch.sigmoid(product + self.bias), self.b)}


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def calls(self, x: Tensor) -> dict[str, Tensor]:
        one = self.a(x)
        two = self.a(torch.relu(one))
        return {"a": one, "a@2": two, "head": self.head(torch.relu(two))}


class Tied(nn.Module):
    """Two layers, one weight: each layer's norm is that of the weight's whole gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.b.weight = self.a.weight

    def calls(self, x: Tensor) -> dict[str, Tensor]:
        one = self.a(x)
        return {"a": one, "b": self.b(torch.relu(one))}


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(WIDTH, 9), nn.Linear(9, 9), nn.Linear(9, 2)
        self.relu = nn.ReLU(inplace=True)

    def calls(self, x: Tensor) -> dict[str, Tensor]:
        z = self.a(x)
        w = self.b(self.relu(z.clone()))  # the probe is given the model without the clones
        return {"a": z, "b": w, "head": self.head(torch.relu(w.clone()))}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu_(self.b(self.relu(self.a(x))))
        return self.head(h)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 5, 3, padding=1, stride=2, groups=1)
        self.b = nn.ConvTranspose2d(5, 4, 2)
        self.w = nn.Parameter(torch.randn(2, 4, 3, 3))

    def calls(self, x: Tensor) -> dict[str, Tensor]:
        images = x[:, :, None, None] * torch.ones(1, 1, 8, 8)
        z = self.a(images[:, :3])
        y = self.b(F.gelu(z))
        return {"a": z, "b": y, "w": F.conv2d(F.silu(y), self.w)}


def forward_last(self: Any, x: Tensor) -> Tensor:
    return list(self.calls(x).values())[-1]


for kind in (Modules, Functional, Shared, Tied, Convolutions):
    kind.forward = forward_last  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Modules, id="modules"),
        pytest.param(Functional, id="functional layers and bare parameters"),
        pytest.param(Shared, id="a shared layer: its output by call, its weight in total"),
        pytest.param(Tied, id="two layers with one weight"),
        pytest.param(InPlace, id="activations in place, as module and as function"),
        pytest.param(Convolutions, id="convolutions, transposed and functional too"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["in float32", "in float64"])
def test_norms_equal_those_of_autograd(kind: Callable[[], Any], dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model, x = kind().to(dtype), torch.randn(6, WIDTH, dtype=dtype)
    seen = figures(model, x, seed=3)
    outputs = model.calls(x)
    last = list(outputs.values())[-1]
    weights = {
        name: dict(model.named_parameters(remove_duplicate=False)).get(f"{name}.weight", getattr(model, name, None))
        for name in outputs
    }
    by_output = torch.autograd.grad(last, list(outputs.values()), cotangent(last.shape, 3).to(dtype), retain_graph=True)
    assert list(seen) == list(outputs)
    for (name, _), grad in zip(outputs.items(), by_output, strict=True):
        assert seen[name].output_grad_norm == pytest.approx(size(grad), rel=1e-4), name
        weight = weights[name.partition("@")[0]]
        (grad_of_weight,) = torch.autograd.grad(last, weight, cotangent(last.shape, 3).to(dtype), retain_graph=True)
        assert seen[name].grad_norm == pytest.approx(size(grad_of_weight), rel=1e-4), name
        assert seen[name].weight_norm == pytest.approx(size(weight), rel=1e-5), name


@dataclass
class Result:
    logits: Tensor
    classes: Tensor
    note: str = "a leaf"


class Pair(NamedTuple):
    logits: Tensor
    other: Tensor


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [
        pytest.param(lambda y: {"classes": y.argmax(1), "logits": y}, "dict", id="a dict with integers beside floats"),
        pytest.param(lambda y: (y.argmax(1), [y]), "tuple", id="a tuple with integers, and a list in it"),
        pytest.param(lambda y: Result(y, y.argmax(1)), "Result", id="a dataclass"),
        pytest.param(lambda y: Pair(y, y.argmax(1)), "Pair", id="a named tuple"),
        pytest.param(lambda y: y, "tensor", id="a tensor"),
    ],
)
def test_every_floating_output_is_projected_whatever_holds_it(wrap: Callable[[Tensor], Any], kind: str) -> None:
    class Wrapped(Modules):
        def forward(self, x: Tensor) -> Any:
            return wrap(list(self.calls(x).values())[-1])

    torch.manual_seed(0)
    model, x = Wrapped(), torch.randn(5, WIDTH)
    profile = gct.probe(model, x)
    last = model.calls(x)["b"]
    (expected,) = torch.autograd.grad(last, model.a.weight, cotangent(last.shape))
    assert profile.output.kind == kind
    assert profile.layers[0].grad_norm == pytest.approx(size(expected), rel=1e-4)


def test_both_parts_of_a_complex_output_count() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.re, self.im = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(self.re(x), self.im(x))

    model, x = Complex(), torch.randn(5, WIDTH)
    seen = figures(model, x)
    output = model(x)
    v = cotangent(output.shape, dtype=torch.complex64)
    grads = torch.autograd.grad(output, [model.re.weight, model.im.weight], v)
    assert min(map(size, grads)) > 0.1
    assert [seen["re"].grad_norm, seen["im"].grad_norm] == pytest.approx(list(map(size, grads)), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_model_in_half_precision_is_probed_in_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Modules().to(dtype)
    x = torch.randn(8, WIDTH, dtype=dtype)
    exact = figures(Modules().double(), x.double())
    profile = gct.probe(model, x)
    assert profile.verdict == "healthy"
    assert [layer.name for layer in profile.layers] == list(exact)
    assert all(layer.grad_norm and math.isfinite(layer.grad_norm) for layer in profile.layers)


def test_the_norms_of_a_chain_of_thirty_sigmoids_do_not_underflow() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(30) for part in (nn.Linear(64, 64), nn.Sigmoid())]
    profile = gct.probe(nn.Sequential(*layers, nn.Linear(64, 10)), torch.randn(32, 64))
    assert all(layer.output_grad_norm and layer.grad_norm for layer in profile.layers)
    assert profile.layers[0].output_grad_norm < 1e-22  # type: ignore[operator]
    assert profile.measured_decades == pytest.approx(-29 * 0.85, abs=2)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([3e-30, 4e-30], id="squares too small for float32"),
        pytest.param([3e25, 4e25], id="squares too large for float32"),
        pytest.param([3e-200, 4e-200], id="squares too small for float64"),
        pytest.param([3e200, 4e200], id="squares too large for float64"),
    ],
)
def test_a_norm_neither_underflows_nor_overflows(values: list[float]) -> None:
    assert norm(torch.tensor(values, dtype=torch.float64)) == pytest.approx(values[0] / 3 * 5)


# loss and seed


def test_the_users_loss_and_targets_are_used() -> None:
    torch.manual_seed(0)
    model, x, y = Modules(), torch.randn(6, WIDTH), torch.randint(3, (6,))
    profile = gct.probe(model, x, F.cross_entropy, y)
    (expected,) = torch.autograd.grad(F.cross_entropy(model(x), y), model.a.weight)
    assert profile.loss == "user"
    assert profile.layers[0].grad_norm == pytest.approx(size(expected), rel=1e-4)


def test_a_model_that_returns_its_loss_is_probed_by_that_loss() -> None:
    class WithLoss(Modules):
        def forward(self, x: Tensor) -> Tensor:
            return self.calls(x)["b"].square().mean()

    torch.manual_seed(0)
    model, x = WithLoss(), torch.randn(6, WIDTH)
    (expected,) = torch.autograd.grad(model(x), model.a.weight)
    assert figures(model, x)["a"].grad_norm == pytest.approx(size(expected), rel=1e-4)


def test_the_same_seed_gives_the_same_report_and_another_seed_another_cotangent() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 4))
    x = torch.randn(6, WIDTH)
    first = gct.probe(model, x, seed=1)
    torch.rand(5)
    assert gct.probe(model, x, seed=1) == first
    other = gct.probe(model, x, seed=2)
    assert other.layers[-1].output_grad_norm != first.layers[-1].output_grad_norm
    assert other.seed == 2


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: torch.rand(()).item(), id="torch"),
        pytest.param(random.random, id="Python"),
        pytest.param(np.random.rand, id="numpy"),
    ],
)
def test_a_model_that_drops_layers_by_chance_is_probed_alike_and_whole(draw: Callable[[], float]) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(8)), nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                if draw() < 0.5:
                    x = x + torch.relu(block(x))
            return self.head(x)

    model, x = Dropping(), torch.randn(5, WIDTH)
    first = gct.probe(model, x, seed=4)
    draw()
    assert gct.probe(model, x, seed=4) == first
    assert all(layer.output_grad_norm for layer in first.layers)


# no trace


def state_of(model: nn.Module) -> list[tuple[str, Tensor, Any, bool]]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [
        (name, t.detach().clone(), None if t.grad is None else t.grad.clone(), t.requires_grad) for name, t in tensors
    ]


def same(one: list[Any], other: list[Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b

    return len(one) == len(other) and all(all(map(equal, a, b)) for a, b in zip(one, other, strict=True))


def mixed_modes() -> nn.Module:
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[1].eval()
    return model


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(mixed_modes, id="one batch norm frozen, one not"),
        pytest.param(lambda: mixed_modes().eval(), id="in evaluation mode"),
        pytest.param(
            lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(WIDTH, 8)), nn.ReLU(), nn.Linear(8, 2)),
            id="spectral norm, which updates buffers in forward",
        ),
        pytest.param(
            lambda: nn.Sequential(weight_norm(nn.Linear(WIDTH, 8)), nn.ReLU(), nn.Linear(8, 2)),
            id="weight norm by hooks",
        ),
        pytest.param(
            lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(WIDTH, 8)), nn.ReLU(), nn.Linear(8, 2)),
            id="weight norm by parametrization",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_model_the_input_and_the_random_state_are_as_before(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = build(), torch.randn(6, WIDTH)
    model(x).sum().backward()
    before, modes, old, random = (
        state_of(model),
        [m.training for m in model.modules()],
        x.clone(),
        torch.get_rng_state(),
    )
    profile = gct.probe(model, x)
    assert same(before, state_of(model))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(x, old)
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert all(layer.grad_norm for layer in profile.layers)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("wrap", [weight_norm, parametrizations.weight_norm], ids=["by hooks", "by parametrization"])
def test_a_weight_normed_layers_gradient_is_that_of_direction_and_length(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(wrap(nn.Linear(WIDTH, 8)), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(6, WIDTH)
    owned = [p for name, p in model[0].named_parameters() if name != "bias"]
    grads = torch.autograd.grad(model(x), owned, cotangent(torch.Size((6, 2))))
    assert figures(model, x)["0"].grad_norm == pytest.approx(math.hypot(*map(size, grads)), rel=1e-4)


# how the model is run


def test_a_model_in_evaluation_mode_is_probed_as_it_trains() -> None:
    torch.manual_seed(0)
    model, x = mixed_modes().train(), torch.randn(6, WIDTH) * 5 + 3
    assert gct.probe(model, x).layers == gct.probe(model.eval(), x).layers


def test_a_part_that_its_owner_froze_stays_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    model, x = mixed_modes(), torch.randn(6, WIDTH) * 5 + 3
    assert gct.probe(model, x).layers != gct.probe(model.train(), x).layers


def test_batch_norm_gets_two_samples_where_one_was_given() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    assert gct.probe(model, torch.randn(1, WIDTH)).batch_size == 2


def test_frozen_layers_have_no_gradient_and_the_rest_of_their_chain_is_measured() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(6) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 2))
    model[:4].requires_grad_(False)
    profile = gct.probe(model, torch.randn(16, WIDTH))
    assert [layer.grad_norm is None for layer in profile.layers] == [True, True, *[False] * 5]
    assert profile.measured_over == ("4", "10")
    assert profile.verdict == "healthy"


def test_it_works_under_no_grad() -> None:
    model, x = Modules(), torch.randn(5, WIDTH)
    expected = gct.probe(model, x)
    with torch.no_grad():
        assert gct.probe(model, x) == expected


def test_where_real_values_lead_another_way_the_figures_are_of_that_way() -> None:
    class Twofold(nn.Module):
        """Goes another way on the meta device, as code that asks for the device does."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.device.type != "meta":
                x = torch.relu(self.a(x))
            return self.c(torch.relu(self.b(x)))

    seen = figures(Twofold(), torch.randn(5, WIDTH))
    assert list(seen) == ["a", "b", "c"]
    assert all(layer.output_grad_norm for layer in seen.values())
    assert seen["a"].activation_std


def test_a_large_model_is_named_only_once_so_that_time_stays_linear() -> None:
    class Counting(nn.Sequential):
        asked = 0

        def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
            Counting.asked += 1
            return super().named_parameters(*args, **kwargs)

    layers = [part for _ in range(40) for part in (nn.Linear(4, 4), nn.ReLU())]
    model = Counting(*layers, nn.Linear(4, 2))
    gct.probe(model, torch.randn(4, 4))
    assert Counting.asked < 40


# activations


def test_the_figures_of_an_activation_are_of_its_output() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    x = torch.randn(50, WIDTH)
    seen = figures(model, x)
    for name, values in (("0", model[:2](x)), ("2", model[:4](x))):
        assert seen[name].activation_mean == pytest.approx(float(values.detach().mean()), abs=1e-6)
        assert seen[name].activation_std == pytest.approx(float(values.detach().std(correction=0)), rel=1e-5)
    assert (seen["4"].activation_mean, seen["4"].dead_fraction) == (None, None)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        pytest.param(
            lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), (20, 4), id="a Linear's features"
        ),
        pytest.param(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), (9, 5, 4), id="in sequences"),
        pytest.param(
            lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)), (9, 4, 3, 3), id="channels"
        ),
    ],
)
def test_a_dead_unit_is(build: Callable[[], nn.Sequential], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = build()
    nn.init.constant_(model[0].bias, 20.0)
    model[0].bias.data[0] = -20.0
    assert gct.probe(model, torch.randn(shape)).layers[0].dead_fraction == 0.25


# errors


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(nn.Linear(WIDTH, 2, device="meta"), "on the meta device", id="weights that are not there"),
        pytest.param(nn.Linear(WIDTH, 2).requires_grad_(False), "requires a gradient", id="everything frozen"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_line(model: nn.Module, message: str) -> None:
    device = next(model.parameters()).device
    with pytest.raises(gct.GradtoolError, match=message) as caught:
        gct.probe(model, torch.randn(5, WIDTH, device=device))
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        pytest.param(lambda output, targets: output.no_such_method(), "no_such_method", id="raises"),
        pytest.param(lambda output, targets: 0.5, "returned float, not a tensor", id="returns a number"),
    ],
)
def test_a_loss_is_refused_that(loss_fn: Callable[[Any, Any], Any], message: str) -> None:
    with pytest.raises(gct.GradtoolError, match=message):
        gct.probe(Modules(), torch.randn(5, WIDTH), loss_fn)


def test_fused_recurrent_layers_are_named_as_not_measured() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.lstm(x)[0])

    assert "not measured: lstm, whose steps run fused" in gct.probe(Tagger(), torch.randn(4, 5, 8)).reasons


def test_the_norm_of_a_large_tensor_is_taken_in_parts() -> None:
    large = torch.full((5000, 4000), 1e-30)
    assert norm(large) == pytest.approx(1e-30 * math.sqrt(2e7), rel=1e-6)
    large[3, 3] = math.nan
    assert math.isnan(norm(large))
    large[4000, 0] = math.inf
    assert math.isnan(norm(large))


class Split(nn.Module):
    """An activation by hand that selects between two branches, as xIELU does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)])
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.body:
            h = layer(x)
            x = torch.where(h > 0, h * h + h, torch.expm1(torch.min(h, h.new_tensor(-1e-6))))
        return self.out(x)


def test_an_activation_that_selects_by_a_mask_is_fed_by_its_values() -> None:
    profile = gct.probe(Split(), torch.randn(16, 8))
    assert profile.verdict == "healthy"
    assert {layer.dead_fraction for layer in profile.layers[:-1]} == {0.0}
