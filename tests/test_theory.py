"""Signal-propagation theory against closed forms, brute-force integrals, published numbers and simulation."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcheck_tool.theory import ConvGeometry, Scale, Stage, Unread, Weights, predict, weights_of
from gradcheck_tool.theory.activations import ACTIVATION_NAMES, activation_named, activation_of, find_kinks
from gradcheck_tool.theory.gaussian import Activation, log_moments, second_moments, value_and_slope
from gradcheck_tool.theory.spatial import gather, grid_of, spread, taps
from gradcheck_tool.theory.weight_statistics import objection

CONSTANTS: dict[str, tuple[float, ...]] = {
    "threshold": (0.3, -1.0),
    "clamp": (-0.5, 0.7),
    "clamp_min": (0.1,),
    "clamp_max": (1.2,),
    "pow": (3,),
}
UNDEFINED = {"sqrt", "rsqrt", "log", "log1p", "log2", "log10", "reciprocal", "tan", "acosh", "asin", "acos", "atanh"}
UNDEFINED |= {"logit"}
NOT_ELEMENTWISE = {"MultiheadAttention", "Softmin", "Softmax", "Softmax2d", "LogSoftmax"}
DEFINED = [name for name in ACTIVATION_NAMES if name not in UNDEFINED]
SIZES = (1e-30, 1e-12, 1e-4, 0.03, 1.0, 17.0, 1e4, 1e12, 1e30)


def named(name: str, *constants: float) -> Activation:
    activation = activation_named(name, *(constants or CONSTANTS.get(name, ())))
    assert activation is not None
    return activation


# --- Gaussian integrals ---------------------------------------------------------------------------------------------


def erf_moments(q: float) -> tuple[float, float]:
    """Williams 1998: E[erf(√q u)²] = 2/π arcsin(2q/(1 + 2q)), E[erf'²] = 4/(π √(1 + 4q))."""
    return 2 / math.pi * math.asin(2 * q / (1 + 2 * q)), 4 / (math.pi * math.sqrt(1 + 4 * q))


@pytest.mark.parametrize("q", SIZES)
@pytest.mark.parametrize(
    ("name", "constants", "exact"),
    [
        ("relu", (), lambda q: (q / 2, 0.5)),
        ("leaky_relu", (0.2,), lambda q: (q * 1.04 / 2, 1.04 / 2)),
        ("prelu", (0.5,), lambda q: (q * 1.25 / 2, 1.25 / 2)),
        ("rrelu", (0.0, 1.0), lambda q: (q * (1 + 1 / 3) / 2, (1 + 1 / 3) / 2)),
        ("abs", (), lambda q: (q, 1.0)),
        ("square", (), lambda q: (3 * q * q, 4 * q)),
        ("sin", (), lambda q: (-math.expm1(-2 * q) / 2, (1 + math.exp(-2 * q)) / 2)),
        ("cos", (), lambda q: ((1 + math.exp(-2 * q)) / 2, -math.expm1(-2 * q) / 2)),
        ("erf", (), erf_moments),
    ],
)
def test_moments_agree_with_closed_forms(
    name: str, constants: tuple[float, ...], exact: Callable[[float], tuple[float, float]], q: float
) -> None:
    assert second_moments(named(name, *constants), q) == pytest.approx(exact(q), rel=1e-9)


@pytest.mark.parametrize("q", [1e-30, 1e-4, 0.03, 1.0, 17.0, 100.0])
def test_moments_of_exp_agree_with_the_closed_form_as_long_as_they_are_representable(q: float) -> None:
    assert second_moments(named("exp"), q) == pytest.approx((math.exp(2 * q), math.exp(2 * q)), rel=1e-9)


@pytest.mark.parametrize("q", [0.5, 3.0])
def test_quadrature_of_an_oscillating_function_agrees_with_the_closed_form(q: float) -> None:
    fast = activation_of(lambda x: torch.sin(30 * x), "siren")
    assert second_moments(fast, q) == pytest.approx((0.5, 450.0), rel=1e-9)


def brute_force(activation: Activation, q: float) -> tuple[float, float]:
    """Midpoint rule on four million points in u, with every kink on the border of a cell."""
    ends = [-12.0, *sorted(kink / math.sqrt(q) for kink in activation.kinks if abs(kink) < 12 * math.sqrt(q)), 12.0]
    value = slope = 0.0
    for low, high in itertools.pairwise(ends):
        step = (high - low) / 1_000_000
        u = low + step * (torch.arange(1_000_000, dtype=torch.float64) + 0.5)
        density = torch.exp(-u * u / 2) * (step / math.sqrt(2 * math.pi))
        phi, derivative = value_and_slope(activation.function, math.sqrt(q) * u)
        value += float((phi**2 * density).sum())
        slope += float((derivative**2 * density).sum())
    return value, slope


@pytest.mark.parametrize("q", [0.02, 0.7, 30.0])
@pytest.mark.parametrize("name", [name for name in DEFINED if name not in {"exp", "exp2", "expm1", "sinh", "cosh"}])
def test_moments_of_every_activation_agree_with_brute_force(name: str, q: float) -> None:
    activation = named(name)
    assert second_moments(activation, q) == pytest.approx(brute_force(activation, q), rel=1e-8, abs=1e-11)


@pytest.mark.parametrize(
    "name", [name for name in DEFINED if name not in {"sinc", "exp", "exp2", "expm1", "sinh", "cosh"}]
)
def test_moments_exist_from_the_smallest_to_the_largest_input(name: str) -> None:
    for q in SIZES:
        assert all(math.isfinite(moment) and moment >= 0 for moment in second_moments(named(name), q))


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "gelu", "softplus", "hardtanh", "tanhshrink", "glu"])
def test_the_table_agrees_with_the_integral_between_its_nodes(name: str) -> None:
    activation = named(name)
    log_q = np.linspace(-30.0, 30.0, 41) + 0.0123
    value, slope, *_ = log_moments(activation, log_q)
    for index, log in enumerate(log_q):
        q = math.exp(log)
        exact, exact_slope = second_moments(activation, q)
        if activation.gated:
            exact, exact_slope = q * exact, exact + q * exact_slope
        assert math.exp(value[index]) == pytest.approx(exact, rel=2e-5)
        assert math.exp(slope[index]) == pytest.approx(exact_slope, rel=2e-5)


@pytest.mark.parametrize(
    ("name", "value_power", "slope_power"),
    [("relu", 1, 0), ("tanh", 1, 0), ("sigmoid", 0, 0), ("tanhshrink", 3, 2), ("gelu", 1, 0)],
)
def test_moments_follow_a_power_law_below_the_table(name: str, value_power: int, slope_power: int) -> None:
    value, slope, *_ = log_moments(named(name), np.array([-1000.0, -5000.0]))
    assert value[0] - value[1] == pytest.approx(4000.0 * value_power, abs=1e-5)
    assert slope[0] - slope[1] == pytest.approx(4000.0 * slope_power, abs=1e-5)


def test_a_pre_activation_of_exactly_zero_has_the_function_s_value_there() -> None:
    value, slope, *_ = log_moments(named("sigmoid"), np.array([-math.inf, 0.0]))
    assert (math.exp(value[0]), math.exp(slope[0])) == pytest.approx((0.25, 0.0625))


# --- The table of activations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        *(
            nn.ReLU(),
            nn.ReLU6(),
            nn.LeakyReLU(),
            nn.PReLU(),
            nn.ELU(0.7),
            nn.CELU(0.7),
            nn.SELU(),
            nn.GELU(),
            nn.SiLU(),
        ),
        *(
            nn.Mish(),
            nn.Hardtanh(-0.5, 2.0),
            nn.GELU("tanh"),
            nn.Threshold(0.2, -1.0),
            nn.Hardsigmoid(),
            nn.Hardswish(),
            nn.Hardshrink(),
            nn.Softshrink(),
        ),
        *(nn.Tanhshrink(), nn.Softplus(2.0, 15.0), nn.Softsign(), nn.LogSigmoid(), nn.Sigmoid(), nn.Tanh()),
    ],
    ids=lambda module: type(module).__name__,
)
def test_the_named_activation_computes_what_the_module_computes(module: nn.Module) -> None:
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    names = set(getattr(module, "__constants__", ())) - {"inplace", "num_parameters"}
    activation = activation_named(type(module).__name__, **{name: getattr(module, name) for name in names})
    assert activation is not None
    assert torch.allclose(activation.function(x), module.double()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(nn.modules.activation.__all__) - NOT_ELEMENTWISE))
def test_every_activation_module_of_torch_is_known(name: str) -> None:
    assert activation_named(name, *CONSTANTS.get(name.lower(), ())) is not None


@pytest.mark.parametrize(
    ("name", "constants", "kinks"),
    [
        ("relu_", (), (0.0,)),
        ("Hardtanh", (-2.0, 3.0), (-2.0, 3.0)),
        ("clip", (-0.5,), (-0.5,)),
        ("softshrink", (0.25,), (-0.25, 0.25)),
        ("softplus", (2.0, 10.0), (5.0,)),
        ("threshold", (0.3, -1.0), (0.3,)),
    ],
)
def test_kinks_follow_the_constants(name: str, constants: tuple[float, ...], kinks: tuple[float, ...]) -> None:
    assert named(name, *constants).kinks == kinks


@pytest.mark.parametrize(
    "name",
    [
        *("relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink"),
        *("threshold", "clamp", "clamp_max", "abs", "sign", "tanh", "gelu", "silu", "softplus", "mish", "exp"),
    ],
)
def test_kinks_found_numerically_are_those_of_the_table(name: str) -> None:
    activation = named(name)
    # Softplus goes over to the identity by a step of 2e-9, which no one need know of
    expected = () if name == "softplus" else activation.kinks
    assert find_kinks(activation.function) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_an_unknown_callable_gets_its_kinks_and_moments() -> None:
    capped = activation_of(lambda x, *, top: F.relu(x).clamp(max=top), "capped", top=2.5)
    assert capped.kinks == pytest.approx((0.0, 2.5))
    assert second_moments(capped, 1.0)[1] == pytest.approx(0.5 - 0.5 * math.erfc(2.5 / math.sqrt(2)), rel=1e-9)


def test_an_in_place_callable_leaves_no_trouble() -> None:
    assert activation_of(nn.ReLU(inplace=True), "relu").kinks == (0.0,)


def test_a_callable_that_changes_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="not elementwise"):
        activation_of(lambda x: x.sum(), "sum")


@pytest.mark.parametrize(("name", "constants"), [("softmax", ()), ("relu", (1, 2, 3)), ("threshold", ())])
def test_what_torch_does_not_have_is_none(name: str, constants: tuple[float, ...]) -> None:
    activation = activation_named(name, *constants)
    assert activation is None


# --- Published numbers ----------------------------------------------------------------------------------------------

DEFAULT, GLOROT, HE = 1 / 3, 1.0, 2.0
WIDE = 10**9  # the limit of infinite width


def chain(
    activation: Activation, depth: int, gain: float = 2.0, *, bias: bool = False, width: int = 512
) -> list[Stage]:
    """`depth` square layers with σ_w² = gain (and PyTorch's default bias)."""
    weights = Weights(width, width, 0.0, gain / width, 1 / (3 * width) if bias else 0.0)
    return [stage for _ in range(depth) for stage in (weights, activation)][:-1]


@pytest.mark.parametrize(
    ("name", "default", "glorot", "he"),
    [
        ("relu", 0.408, 0.707, 1.000),
        ("tanh", 0.577, None, 1.051),
        ("sigmoid", 0.141, 0.236, 0.318),
        ("gelu", 0.289, 0.500, 0.707),
        ("silu", 0.289, 0.500, 0.707),
    ],
)
def test_the_factor_per_block_at_the_fixed_point(name: str, default: float, glorot: float | None, he: float) -> None:
    for gain, factor in ((DEFAULT, default), (GLOROT, glorot), (HE, he)):
        if factor is not None:
            start = 1e-9 if name in {"gelu", "silu"} else 1.0  # below the unstable fixed point of He
            near, far = (predict(chain(named(name), depth, gain, width=WIDE), start).decades for depth in (300, 301))
            assert near is not None
            assert far is not None
            assert 10 ** (far - near) == pytest.approx(factor, abs=0.0006)


@pytest.mark.parametrize(
    ("name", "gain", "bias", "decades"),
    [
        ("tanh", HE, False, 0.231),
        ("sigmoid", HE, False, -9.534),
        ("gelu", GLOROT, False, -5.402),
        ("relu", DEFAULT, True, -7.39),
        ("relu", HE, False, 0.0),
        ("gelu", HE, False, -1.06),
    ],
)
def test_decades_over_twenty_layers(name: str, gain: float, bias: bool, decades: float) -> None:
    assert predict(chain(named(name), 20, gain, bias=bias, width=512 if bias else WIDE)).decades == pytest.approx(
        decades, abs=0.005
    )


@pytest.mark.parametrize(("q0", "decades"), [(0.01, 0.79), (60.0, -0.50)])
def test_the_size_of_the_input_matters(q0: float, decades: float) -> None:
    assert predict(chain(named("tanh"), 10, width=WIDE), q0).decades == pytest.approx(decades, abs=0.01)


# --- Simulation -----------------------------------------------------------------------------------------------------


def geometry_of(module: nn.modules.conv._ConvNd, before: Tensor, after: Tensor) -> ConvGeometry:
    return ConvGeometry(
        input_size=tuple(before.shape[2:]),
        output_size=tuple(after.shape[2:]),
        kernel=module.kernel_size,
        stride=module.stride,
        padding=tuple((int(pad), int(pad)) for pad in module.padding),
        dilation=module.dilation,
        groups=module.groups,
        transposed=module.transposed,
        padding_mode=module.padding_mode,
    )


def simulate(build: Callable[[], list[nn.Module]], shape: tuple[int, ...], seeds: int = 4) -> tuple[float, float]:
    """Mean predicted and mean measured decades of a list of modules that begins and ends with a weight layer."""
    predicted, measured = [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        stages: list[Stage] = []
        outputs: list[Tensor] = []
        h = torch.randn(shape)
        for module in build():
            before, h = h, module(h)
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                geometry = None if isinstance(module, nn.Linear) else geometry_of(module, before, h)
                stages.append(weights_of(module.weight, module.bias, geometry=geometry))
                outputs.append(h)
            elif isinstance(module, nn.Dropout):
                stages.append(Scale(1 / (1 - module.p)))
            elif not isinstance(module, nn.Flatten):
                stages.append(named(type(module).__name__))
        first, last = torch.autograd.grad((h * torch.randn_like(h)).sum(), [outputs[0], outputs[-1]])
        measured.append(math.log10(first.double().norm() / last.double().norm()))
        prediction = predict(stages)
        assert prediction.decades is not None, prediction.reason
        predicted.append(prediction.decades)
    return sum(predicted) / seeds, sum(measured) / seeds


def he(module: nn.Module) -> nn.Module:
    nn.init.kaiming_normal_(module.weight)
    nn.init.zeros_(module.bias)
    return module


def between(activation: type[nn.Module], layers: list[nn.Module]) -> list[nn.Module]:
    return [module for layer in layers for module in (layer, activation())][:-1]


def convs(count: int, channels: int = 32, **options: object) -> list[nn.Module]:
    return [he(nn.Conv2d(channels, channels, **({"kernel_size": 3, "padding": 1} | options))) for _ in range(count)]


SIMULATED: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "layers that narrow from 784 to 10": (
        lambda: between(nn.Tanh, [nn.Linear(m, n) for m, n in ((784, 512), (512, 128), (128, 64), (64, 10))]),
        (64, 784),
    ),
    "dropout between layers": (
        lambda: [m for _ in range(9) for m in (nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5))][:-2],
        (64, 256),
    ),
    "gated linear units": (
        lambda: [m for _ in range(8) for m in (nn.Linear(256, 512), nn.GLU())][:-1],
        (64, 256),
    ),
    "layers without an activation between them": (
        lambda: [he(nn.Linear(256, 256)) for _ in range(5)],
        (64, 256),
    ),
    "padding that loses the border of small images": (lambda: between(nn.ReLU, convs(20)), (16, 32, 8, 8)),
    "no padding": (lambda: between(nn.ReLU, convs(6, padding=0)), (8, 32, 20, 20)),
    "circular padding": (lambda: between(nn.ReLU, convs(10, padding_mode="circular")), (8, 32, 6, 6)),
    "reflected padding": (lambda: between(nn.Tanh, convs(10, padding_mode="reflect")), (8, 32, 6, 6)),
    "strides": (lambda: between(nn.GELU, convs(3, stride=2)), (16, 32, 27, 27)),
    "dilation": (lambda: between(nn.Tanh, convs(8, dilation=2, padding=2)), (8, 32, 12, 12)),
    "groups": (lambda: between(nn.Tanh, convs(8, groups=4)), (8, 32, 12, 12)),
    "transposed convolutions that enlarge": (
        lambda: between(nn.ReLU, [nn.ConvTranspose2d(32, 32, 3, 2, 1, output_padding=1) for _ in range(4)]),
        (16, 32, 3, 3),
    ),
    "transposed convolutions that leave gaps": (
        lambda: between(nn.Sigmoid, [nn.ConvTranspose2d(32, 32, 2, 3) for _ in range(3)]),
        (16, 32, 4, 4),
    ),
    "a flattened map under dense layers": (
        lambda: between(nn.ReLU, [*convs(3, stride=2), nn.Flatten(), nn.Linear(512, 64), nn.Linear(64, 64)]),
        (32, 32, 28, 28),
    ),
    "convolutions of one axis": (
        lambda: between(nn.ReLU, [nn.Conv1d(32, 32, 5, stride=2, padding=2) for _ in range(5)]),
        (16, 32, 600),
    ),
}


@pytest.mark.parametrize("case", SIMULATED)
def test_simulation_agrees(case: str) -> None:
    predicted, measured = simulate(*SIMULATED[case])
    assert predicted == pytest.approx(measured, abs=0.1, rel=0.03)


def test_finite_width_shows_where_the_fixed_point_is_unstable() -> None:
    wide = predict(chain(named("gelu"), 20, HE, width=WIDE)).decades
    narrow, measured = simulate(lambda: between(nn.GELU, [he(nn.Linear(256, 256)) for _ in range(20)]), (64, 256))
    assert wide is not None
    assert narrow - wide > 0.3
    assert narrow == pytest.approx(measured, abs=0.25)


def test_two_activations_in_a_row_are_one() -> None:
    stages = chain(named("relu"), 6)
    doubled = [part for stage in stages for part in ([stage, stage] if isinstance(stage, Activation) else [stage])]
    assert predict(doubled).decades == pytest.approx(predict(stages).decades, abs=1e-6)


# --- Convolution geometry -------------------------------------------------------------------------------------------


def test_taps_spread_and_gather_as_torch_convolves_with_ones() -> None:
    geometry = ConvGeometry((9, 8), (4, 3), (3, 2), (2, 3), ((1, 1), (1, 1)), (2, 1))
    field = torch.rand(9, 8, dtype=torch.float64, requires_grad=True)
    kernel = torch.ones(1, 1, 3, 2, dtype=torch.float64)
    out = F.conv2d(field[None, None], kernel, stride=(2, 3), padding=1, dilation=(2, 1))[0, 0]
    back = torch.rand_like(out)
    (adjoint,) = torch.autograd.grad(out, field, back)
    axes = taps(geometry)
    assert np.allclose(spread(axes, field.detach().numpy()), out.detach().numpy())
    assert np.allclose(gather(axes, back.numpy()), adjoint.numpy())


@pytest.mark.parametrize(
    ("size", "grid"), [((224, 224), (1, 224)), ((100000,), (1,)), ((112, 112), (112, 112)), ((7,), (7,)), ((), ())]
)
def test_long_axes_are_taken_to_be_borderless(size: tuple[int, ...], grid: tuple[int, ...]) -> None:
    assert grid_of(size) == grid


def test_a_compressed_axis_predicts_what_the_full_one_does() -> None:
    def decades(n: int) -> float:
        geometry = ConvGeometry((n, n), (n, n), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        layer = Weights(64 * 9, 64 * 9, 0.0, 2 / (64 * 9), geometry=geometry)
        found = predict([stage for _ in range(16) for stage in (layer, named("relu"))][:-1]).decades
        assert found is not None
        return found

    assert decades(180) == pytest.approx(decades(300), abs=0.03)


# --- Where the theory does not hold ---------------------------------------------------------------------------------

GOOD = Weights(512, 512, 0.0, 2 / 512)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(GOOD, mean=0.05, second_moment=2 / 512 + 0.05**2), "mean of 0.05"),
        (replace(GOOD, mean=0.01, second_moment=1e-4), "constant weights"),
        (replace(GOOD, second_moment=0.0), "all zero"),
        (replace(GOOD, second_moment=math.nan), "not finite"),
        (replace(GOOD, second_moment=math.inf), "not finite"),
        (replace(GOOD, spectral_excess=3.0), "singular value of 3 times"),
        (replace(GOOD, spectral_excess=math.nan), "singular value"),
        (replace(GOOD, effective_fan_in=1.0), "on 1 of 512 inputs"),
        (replace(GOOD, bias_mean=1.0, bias_second_moment=1.0), "not centred"),
    ],
)
def test_a_chain_with_such_a_layer_gets_no_prediction_and_the_reason(bad: Weights, reason: str) -> None:
    prediction = predict([GOOD, named("relu"), bad, named("relu"), GOOD])
    assert prediction.decades is None
    assert prediction.reason is not None
    assert reason in prediction.reason
    assert "weight layer 2" in prediction.reason


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        ("sqrt", "no finite second moment"),
        ("log", "no finite second moment"),
        ("reciprocal", "no finite second moment"),
        ("exp", "no finite second moment"),
        ("sign", "no gradient at all"),
    ],
)
def test_a_chain_with_such_an_activation_gets_no_prediction(activation: str, reason: str) -> None:
    prediction = predict(chain(named(activation), 10))
    assert prediction.decades is None
    assert reason in (prediction.reason or "")


@pytest.mark.parametrize("shape", [(10, 64), (64, 10), (4, 4), (2, 64), (1, 64), (16, 9), (8, 27), (512, 512)])
@pytest.mark.parametrize(
    "initialize",
    [
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
        nn.init.orthogonal_,
        nn.init.trunc_normal_,
        lambda weight: nn.init.kaiming_uniform_(weight, a=math.sqrt(5)),
    ],
    ids=["Glorot uniform", "Glorot normal", "He uniform", "He normal", "orthogonal", "truncated normal", "default"],
)
def test_initializations_in_use_are_accepted(shape: tuple[int, int], initialize: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    for _ in range(5):
        assert objection(weights_of(initialize(torch.empty(shape)))) is None


def test_depthwise_convolutions_are_accepted() -> None:
    torch.manual_seed(0)
    geometry = ConvGeometry((8, 8), (8, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), groups=256)
    assert objection(weights_of(torch.randn(256, 1, 3, 3), geometry=geometry)) is None


@pytest.mark.parametrize(
    "weight",
    [torch.eye(64), torch.full((64, 64), 0.01), torch.zeros(64, 64), torch.full((4, 64), math.nan)],
    ids=["identity", "constant", "zero", "nan"],
)
def test_weights_that_are_not_random_are_refused(weight: Tensor) -> None:
    assert objection(weights_of(weight)) is not None


@pytest.mark.parametrize("excess", [1.5, 3.0])
def test_a_singular_value_outside_the_edge_is_seen(excess: float) -> None:
    torch.manual_seed(0)
    n = 512
    u, v = torch.randn(n), torch.randn(n)
    spike = torch.outer(u / u.norm(), v / v.norm()) * (excess * 2 * math.sqrt(n))
    weights = weights_of(torch.randn(n, n) + spike)
    assert weights.spectral_excess == pytest.approx(excess, rel=0.2)
    assert "singular value" in (objection(weights) or "")


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
def test_a_singular_value_is_seen_at_any_size_of_the_weights(size: float) -> None:
    torch.manual_seed(0)
    weight = torch.randn(96, 128) + torch.outer(torch.randn(96), torch.randn(128))
    excess = weights_of(weight).spectral_excess
    assert excess is not None
    assert excess > 2
    assert weights_of(size * weight).spectral_excess == pytest.approx(excess, rel=1e-4)


@pytest.mark.parametrize("shape", [(600, 1000), (1000, 600), (1, 40), (40, 1), (5, 7)], ids=str)
def test_a_singular_value_that_stands_out_is_that_of_the_decomposition(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape) + 0.5 * torch.outer(torch.randn(shape[0]), torch.randn(shape[1]))
    edge = weight.square().mean().sqrt() * sum(math.sqrt(n) for n in shape)
    exact = float(torch.linalg.matrix_norm(weight, ord=2) / edge)
    assert weights_of(weight).spectral_excess == pytest.approx(exact, rel=1e-3)


def test_of_several_groups_the_root_mean_square_counts_and_a_group_of_zeros_too() -> None:
    torch.manual_seed(0)
    geometry = ConvGeometry((8, 8), (8, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), groups=4)
    weight = torch.randn(32, 8, 3, 3) + torch.randn(32, 1, 1, 1) * torch.randn(1, 8, 3, 3)
    weight[:8] = 0.0
    edge = weight.square().mean().sqrt() * (math.sqrt(8) + math.sqrt(72))
    exact = torch.linalg.matrix_norm(weight.view(4, 8, 72), ord=2).square().mean().sqrt() / edge
    assert weights_of(weight, geometry=geometry).spectral_excess == pytest.approx(float(exact), rel=1e-3)


# --- Reading weights ------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_the_tensor() -> None:
    torch.manual_seed(0)
    weight, bias = torch.rand(30, 50), torch.rand(30)
    weights = weights_of(weight, bias)
    assert (weights.fan_in, weights.fan_out) == (50, 30)
    assert weights.mean == pytest.approx(weight.double().mean().item(), rel=1e-12)
    assert weights.second_moment == pytest.approx(weight.double().square().mean().item(), rel=1e-12)
    assert weights.bias_second_moment == pytest.approx(bias.double().square().mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.t().contiguous().t(),
        lambda w: torch.cat([w, w], 1)[:, : w.shape[1]],
        lambda w: torch.stack([w, w], 2)[..., 0],
    ],
    ids=["transposed", "some columns of more", "every second element"],
)
def test_how_a_weight_lies_in_memory_does_not_matter(view: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(300, 500) + 0.1
    plain, viewed = (asdict(weights_of(w)) for w in (weight, view(weight)))
    del plain["geometry"], viewed["geometry"]
    assert viewed == pytest.approx(plain, rel=1e-5)


def test_no_weight_is_read_behind_a_layer_without_prediction() -> None:
    def read() -> Weights:
        raise AssertionError("was read")

    zero = replace(GOOD, second_moment=0.0)
    assert "all zero" in (predict([Unread(lambda: zero), named("relu"), Unread(read)]).reason or "")


def test_tiny_weights_do_not_underflow() -> None:
    assert weights_of(torch.full((8, 8), 1e-30)).second_moment == pytest.approx(1e-60, rel=1e-6)


@pytest.mark.parametrize(
    ("module", "fan_in", "fan_out"),
    [
        (nn.Conv2d(8, 12, 3, groups=4), 2 * 9, 3 * 9),
        (nn.ConvTranspose2d(8, 12, 3, groups=4), 2 * 9, 3 * 9),
        (nn.Conv1d(6, 10, 5), 6 * 5, 10 * 5),
    ],
    ids=["grouped convolution", "grouped transposed convolution", "convolution of one axis"],
)
def test_fans_of_convolutions(module: nn.modules.conv._ConvNd, fan_in: int, fan_out: int) -> None:
    x = torch.randn(1, module.in_channels, *(9 for _ in module.kernel_size))
    weights = weights_of(module.weight, module.bias, geometry=geometry_of(module, x, module(x)))
    assert (weights.fan_in, weights.fan_out) == (fan_in, fan_out)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_dtype_is_read(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weights = weights_of(torch.randn(64, 64).to(dtype))
    assert weights.second_moment == pytest.approx(1.0, abs=0.1)
    assert objection(weights) is None


@pytest.mark.parametrize(
    "weight",
    [torch.empty(3, 3, device="meta"), torch.zeros(3, 3, dtype=torch.complex64), torch.empty(0, 3)],
    ids=["meta", "complex", "empty"],
)
def test_a_weight_without_values_is_refused(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="no statistics"):
        weights_of(weight)


def test_no_random_state_is_touched() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    weights = weights_of(torch.ones(20, 20).tril())
    predict([GOOD, named("mish"), weights])
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())


# --- Size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gain", "per_block"),
    [("relu", DEFAULT, math.log10(1 / 6) / 2), ("relu", HE, 0.0), ("relu", 200.0, 1.0), ("abs", 1e-30, -15.0)],
    ids=["vanishing", "level", "exploding", "vanishing far beyond float64"],
)
def test_ten_thousand_blocks_neither_overflow_nor_underflow(name: str, gain: float, per_block: float) -> None:
    assert predict(chain(named(name), 10_000, gain)).decades == pytest.approx(9_999 * per_block, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("width", "low", "high"), [(8, 0.3, 0.8), (64, 0.15, 0.3), (1024, 0.03, 0.08)])
def test_the_spread_grows_with_depth_over_width(width: int, low: float, high: float) -> None:
    spread_ = predict(chain(named("relu"), 20, width=width)).spread
    assert spread_ is not None
    assert low < spread_ < high


def test_a_single_block_changes_nothing() -> None:
    assert predict([GOOD]).decades == 0.0


@pytest.mark.parametrize("stages", [[], [named("relu")], [GOOD, named("relu")]], ids=["empty", "no weights", "open"])
def test_a_chain_must_begin_and_end_with_weights(stages: list[Stage]) -> None:
    with pytest.raises(ValueError, match="begin and end with Weights"):
        predict(stages)


def test_slopes_that_change_are_read_again() -> None:
    slopes = torch.full((3,), 0.5)
    before = activation_named("prelu", slopes)
    slopes.fill_(1.0)
    after = activation_named("prelu", slopes)
    assert before is not None
    assert after is not None
    assert second_moments(after, 1.0) == pytest.approx((1.0, 1.0))
    assert log_moments(after, np.zeros(1))[0] == pytest.approx(0.0, abs=1e-9)
