"""Normalization, pooling and joins: the theory against published numbers, closed forms and simulation; then forecasts
of whole nets against what is measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.theory import (
    INPUT,
    Activation,
    Add,
    Concat,
    ConvGeometry,
    Gate,
    Network,
    NoPredictionError,
    Norm,
    Pool,
    Scale,
    Step,
    Weights,
    activation_named,
    activation_of,
    backward,
    chi_batch_norm,
    forward,
    weights_of,
)
from gradcheck_tool.theory.correlation import spectrum_at
from gradcheck_tool.theory.forward import Gain, through_norm
from gradcheck_tool.theory.moments import Moments

HE = Weights(256, 256, 0.0, 2 / 256, mean_is_significant=False)


def named(name: str) -> Activation:
    found = activation_named(name)
    assert found is not None
    return found


# --- Batch norm -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "chi"),
    [
        *(("relu", math.pi / (math.pi - 1)), ("gelu", 1.3188), ("hardtanh", 1.3229), ("tanh", 1.1778)),
        *(("elu", 1.0790), ("selu", 1.0716), ("sigmoid", 1.0336), ("leaky_relu", 1.4534)),
    ],
)
def test_growth_under_batch_norm_is_the_published_one_for_wide_batches(name: str, chi: float) -> None:
    assert chi_batch_norm(named(name), 10**6) == pytest.approx(chi, rel=5e-4)


@pytest.mark.parametrize(("batch", "simulated"), [(8, 1.78), (16, 1.59), (32, 1.53), (64, 1.49)])
def test_growth_under_batch_norm_at_finite_batch_is_the_simulated_one(batch: int, simulated: float) -> None:
    assert chi_batch_norm(named("relu"), batch) == pytest.approx(simulated, rel=0.01)


@pytest.mark.parametrize("batch", [7, 8, 64, 1000])
def test_linear_nets_under_batch_norm_grow_by_b_minus_2_over_b_minus_3(batch: int) -> None:
    identity = activation_of(lambda x: 1.0 * x, "identity")
    assert chi_batch_norm(identity, batch) == pytest.approx((batch - 2) / (batch - 3), rel=1e-4)


def test_batch_norm_over_five_values_has_no_theory() -> None:
    with pytest.raises(ValueError, match="over 5 values"):
        chi_batch_norm(named("relu"), 5)


# --- Correlation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1.0, 0.5, 0.1, 0.01])
def test_correlation_behind_a_relu_is_the_arc_cosine_kernel(delta: float) -> None:
    """Cho and Saul 2009."""
    angle = math.acos(1 - delta)
    exact = 1 - (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
    assert math.exp(spectrum_at(named("relu"), 0.3).log_difference(math.log(delta))) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu"])
def test_differences_far_below_rounding_are_followed(name: str) -> None:
    spectrum = spectrum_at(named(name), 0.0)
    assert spectrum.log_difference(-200.0) == pytest.approx(-200.0 + math.log(spectrum.slope))
    assert spectrum.log_difference(-15.0) == pytest.approx(-15.0 + math.log(spectrum.slope), abs=1e-3)


# --- One step against random numbers --------------------------------------------------------------------------------


def network(*steps: tuple[Step, tuple[int, ...]]) -> Network:
    result = Network()
    for step, reads in steps:
        result.add(step, *reads)
    return result


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("kind", ["average", "maximum"])
def test_pooling_of_four_correlated_positions_agrees_with_random_numbers(name: str, kind: str) -> None:
    activation = named(name)
    layers = [(HE, (INPUT,)), (activation, (0,)), (HE, (1,)), (activation, (2,)), (Pool(kind, 4), (3,))]  # type: ignore[arg-type]
    found = forward(network(*layers))
    before, after = found.of(2), found.of(4)
    generator = torch.Generator().manual_seed(0)
    q, own = math.exp(before.log_level), math.exp(before.log_delta)
    shared, *apart = torch.randn(9, 400_000, generator=generator, dtype=torch.float64)
    z = math.sqrt(q) * (math.sqrt(1 - own) * shared + math.sqrt(own) * torch.stack(apart))
    windows = activation.function(z).reshape(2, 4, -1)
    pooled = windows.mean(1) if kind == "average" else windows.amax(1)
    assert math.exp(after.log_level) == pytest.approx(float(pooled.square().mean()), rel=0.02)
    difference = float((pooled[0] - pooled[1]).square().mean()) / 2
    assert math.exp(after.log_level + after.log_delta) == pytest.approx(difference, rel=0.03)


def test_a_gradient_that_comes_from_two_readers_adds_up() -> None:
    fork = network((HE, (INPUT,)), (named("relu"), (0,)), (HE, (1,)), (HE, (1,)), (Add(), (2, 3)), (HE, (4,)))
    one = network((HE, (INPUT,)), (named("relu"), (0,)), (HE, (1,)), (HE, (2,)))
    energy, alone = (backward(forward(net), {end: 1.0})[0] for net, end in ((fork, 5), (one, 3)))
    assert energy == pytest.approx(alone + math.log(2), abs=1e-9)


def test_concatenation_shares_the_gradient_out() -> None:
    layers = [(HE, (INPUT,)), (HE, (0,)), (Concat((0.25, 0.75)), (0, 1)), (HE, (2,))]
    energies = backward(forward(network(*layers)), {3: 1.0})  # type: ignore[arg-type]
    assert math.exp(energies[1] - energies[2]) == pytest.approx(0.75)
    assert math.exp(energies[0] - energies[2]) == pytest.approx(0.25 + 0.75 * 2.0)


def test_batch_norm_takes_any_scale_of_the_weights_away() -> None:
    for factor in (1e-4, 1.0, 1e4):
        weights = Weights(256, 256, 0.0, factor / 256, mean_is_significant=False)
        norm = Norm("batch", 1, 64, epsilon=1e-30)
        steps: list[tuple[Step, tuple[int, ...]]] = [(weights, (INPUT,)), (norm, (0,)), (named("relu"), (1,))]
        steps += [(weights, (2,)), (norm, (3,)), (named("relu"), (4,)), (weights, (5,))]
        energies = backward(forward(network(*steps)), {6: 1.0})
        assert energies[3] - energies[6] == pytest.approx(math.log(chi_batch_norm(named("relu"), 64)), abs=1e-4)


@pytest.mark.parametrize("join", [Add(), Gate()], ids=["added", "multiplied"])
def test_values_of_one_origin_are_not_taken_for_independent(join: Step) -> None:
    both = network((HE, (INPUT,)), (named("relu"), (0,)), (join, (0, 1)))
    with pytest.raises(NoPredictionError, match="of one origin"):
        forward(both)


def test_a_difference_of_means_is_seen() -> None:
    """x − y of two ReLU layers has no mean over channels, x + y twice that of each."""
    relu = named("relu")
    for negative, mean in ((True, 0.0), (False, 2 / math.sqrt(2 * math.pi))):
        steps = [(HE, (INPUT,)), (relu, (0,)), (HE, (INPUT,)), (relu, (2,)), (Add(negative), (1, 3)), (Scale(), (4,))]
        found = forward(network(*steps), 0.5).of(4)  # type: ignore[arg-type]
        assert found.mean * math.exp(0.5 * found.log_level) == pytest.approx(mean, abs=0.01)


# --- Whole nets -----------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module], width: int = 128, blocks: int = 6) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 5)
        self.one = nn.ModuleList(nn.Sequential(nn.Linear(width, width), norm(width)) for _ in range(blocks))
        self.two = nn.ModuleList(nn.Sequential(nn.Linear(width, width), norm(width)) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for one, two in zip(self.one, self.two, strict=True):
            x = F.relu(x + two(F.relu(one(x))))
        return self.head(x)


class Squeezed(nn.Module):
    """Channels gated by their own average, as in SENet."""

    def __init__(self, channels: int = 48, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.gates = nn.ModuleList(nn.Linear(channels, channels) for _ in range(blocks))
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for conv, gate in zip(self.body, self.gates, strict=True):
            h = conv(x)
            x = x + h * torch.sigmoid(gate(h.mean((2, 3))))[:, :, None, None]
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    def __init__(self, growth: int = 24, layers: int = 5) -> None:
        super().__init__()
        sizes = [growth * (index + 1) for index in range(layers)]
        self.stem = nn.Conv2d(3, growth, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes)
        self.layers = nn.ModuleList(nn.Conv2d(size, growth, 3, padding=1) for size in sizes)
        self.head = nn.Linear(growth * (layers + 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(norm(x).relu())], dim=1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.into, self.again, self.head = (nn.Linear(width, n) for n in (width, width, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.into(x[:, 0]))
        for step in range(1, x.shape[1]):
            h = torch.tanh(self.into(x[:, step]) + self.again(h))
        return self.head(h)


def mlp(*between: Callable[[int], nn.Module], depth: int = 12, width: int = 256) -> nn.Sequential:
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), *(make(width) for make in between))]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def conv_net(pool: nn.Module, *between: Callable[[int], nn.Module], channels: int = 32) -> nn.Sequential:
    layers: list[nn.Module] = []
    for block in range(6):
        layers += [nn.Conv2d(channels if block else 3, channels, 3, padding=1), *(make(channels) for make in between)]
        layers += [pool] if block % 2 else []
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5))


def relu(_width: int) -> nn.Module:
    return nn.ReLU()


FORECAST = {
    "batch norm": (lambda: mlp(nn.BatchNorm1d, relu), (32, 256)),
    "batch norm over few samples": (lambda: mlp(nn.BatchNorm1d, relu), (8, 256)),
    "batch norm behind the activation": (lambda: mlp(relu, nn.BatchNorm1d), (32, 256)),
    "layer norm": (lambda: mlp(nn.LayerNorm, relu), (32, 256)),
    "RMS norm behind the activation": (lambda: mlp(lambda _: nn.GELU(), nn.RMSNorm), (32, 256)),
    "dropout": (lambda: mlp(nn.BatchNorm1d, relu, lambda _: nn.Dropout(0.3)), (32, 256)),
    "maximum pooling": (lambda: conv_net(nn.MaxPool2d(2), relu), (8, 3, 24, 24)),
    "overlapping maximum pooling": (lambda: conv_net(nn.MaxPool2d(3, 2, 1), relu), (8, 3, 24, 24)),
    "average pooling": (lambda: conv_net(nn.AvgPool2d(2), lambda _: nn.Tanh()), (8, 3, 24, 24)),
    "group norm": (lambda: conv_net(nn.MaxPool2d(2), lambda c: nn.GroupNorm(4, c), relu), (8, 3, 24, 24)),
    "a residual net": (lambda: Residual(lambda _: nn.Identity()), (32, 128)),
    "a residual net with batch norm": (lambda: Residual(nn.BatchNorm1d), (32, 128)),
    "channels that are gated": (Squeezed, (8, 3, 12, 12)),
    "dense connections": (Dense, (8, 3, 12, 12)),
    "one weight at each step": (Recurrent, (16, 8, 128)),
}


def forecaster(model: nn.Module, x: Tensor) -> Forecaster:
    if any(isinstance(part, nn.LazyLinear) for part in model.modules()):
        model(x)
    return Forecaster(model, read(model, Inputs((x,))).structure)


@pytest.mark.parametrize(("build", "shape"), FORECAST.values(), ids=FORECAST)
def test_a_forecast_agrees_with_what_is_measured(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Within 15 % or 0.3 decades, mean of 2 seeds."""
    predicted, measured = [], []
    for seed in range(2):
        torch.manual_seed(seed)
        model, x = build(), torch.randn(shape)
        forecast = forecaster(model, x).forecast()
        assert forecast.decades is not None, forecast.note
        assert forecast.over is not None
        norms = {layer.name: layer.output_grad_norm for layer in gct.probe(model, x, seed=seed).layers}
        first, last = (norms[end] for end in forecast.over)
        predicted.append(forecast.decades)
        measured.append(math.log10(first) - math.log10(last))
    assert statistics.mean(predicted) == pytest.approx(statistics.mean(measured), rel=0.15, abs=0.3)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.ReLU], ids=lambda kind: kind.__name__)
def test_the_differences_between_samples_fade_as_forecast(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = mlp(lambda _: activation(), depth=8).double(), torch.randn(32, 256).double()
    hidden = model[:-1](x).detach()
    spread = math.sqrt(float((hidden - hidden.mean(0)).square().mean() / hidden.square().mean() * 32 / 31))
    forecast = forecaster(model, x).forecast()
    assert forecast.spread_decades == pytest.approx(math.log10(spread), rel=0.03, abs=0.05)


def test_concatenations_that_nothing_reads_are_left_out() -> None:
    network = Network()
    parts = [network.add(HE, INPUT), network.add(HE, INPUT)]
    idle = network.add(Concat((0.5, 0.5)), *parts)
    active = [network.add(named("relu"), part) for part in parts]
    head = network.add(HE, network.add(Concat((0.5, 0.5)), *active), tied=0)
    shorter, numbers = network.without_idle_concatenations({head})
    assert idle not in numbers
    assert len(shorter.vertices) == len(network.vertices) - 1
    assert shorter.vertices[numbers[head]].tied == 0
    long, short = (backward(forward(net), {end: 1.0}) for net, end in ((network, head), (shorter, numbers[head])))
    assert [short[new] for new in numbers.values()] == [long[old] for old in numbers]
    assert idle in network.without_idle_concatenations({head, idle})[1]


def test_parts_of_many_concatenations_are_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part meets an equal norm in each concatenation: its cost is that of one, and the forecast that of several."""
    passed: list[Norm] = []

    def counting(step: Norm, before: Moments) -> tuple[Moments, Gain]:
        passed.append(step)
        return through_norm(step, before)

    monkeypatch.setattr("gradcheck_tool.theory.network.through_norm", counting)
    layers, counts = 12, []
    torch.manual_seed(0)
    model, x = Dense(8, layers), torch.randn(8, 3, 12, 12)
    found = []
    for nearly in (0.0, 1e-10):
        with torch.no_grad():
            for position, norm in enumerate(model.norms):
                norm.weight.fill_(1.0 + nearly * position)  # norms that differ are followed one by one
        passed.clear()
        found.append(forecaster(model.double(), x.double()).forecast())
        counts.append(len(passed))
    assert counts == [layers, layers * (layers + 1) // 2]
    assert found[0].decades == pytest.approx(found[1].decades, rel=1e-6)


def test_weights_are_read_once_and_none_behind_a_norm_that_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Tensor] = []

    def reading(weight: Tensor, *, geometry: ConvGeometry | None) -> Weights:
        read.append(weight)
        return weights_of(weight, geometry=geometry)

    monkeypatch.setattr("gradcheck_tool.forecast.layers.weights_of", reading)
    model, x = conv_net(nn.MaxPool2d(2), nn.BatchNorm2d, relu), torch.randn(8, 3, 24, 24)
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    found = forecaster(model, x)
    found.forecast()
    found.predict_fixed(found.structure.chains)
    found.weight_gradient_decades()
    assert [id(weight) for weight in read] == [id(weight) for weight in weights]
    read.clear()
    nn.init.zeros_(next(module.weight for module in model.modules() if isinstance(module, nn.BatchNorm2d)))
    assert forecaster(model, x).forecast().note == "a normalization whose weight is zero"
    assert len(read) == 1


NOT_FORECAST = {
    "attention": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (4, 5, 16), "no rule for"),
    "instance norm": (lambda: conv_net(nn.MaxPool2d(2), nn.InstanceNorm2d, relu), (4, 3, 16, 16), "instance norm"),
    "a batch of 4": (lambda: mlp(nn.BatchNorm1d, relu), (4, 256), "over 4 values"),
}


@pytest.mark.parametrize(("build", "shape", "reason"), NOT_FORECAST.values(), ids=NOT_FORECAST)
def test_where_the_theory_has_no_rule_there_is_no_forecast(
    build: Callable[[], nn.Module], shape: tuple[int, ...], reason: str
) -> None:
    torch.manual_seed(0)
    forecast = forecaster(build(), torch.randn(shape)).forecast()
    assert forecast.decades is None
    assert reason in str(forecast.note)


def test_on_the_meta_device_there_is_no_forecast() -> None:
    with torch.device("meta"):
        model = mlp(relu)
    report = gct.audit(model, torch.empty(4, 256, device="meta"))
    assert report.forecast is not None
    assert report.forecast.decades is None
    assert "meta device" in str(report.forecast.note)
    assert report.chains[0].predicted_decades_with_bn is None


# --- Norms that are not there yet -----------------------------------------------------------------------------------


def test_what_batch_norm_will_do_is_said_before_it_is_inserted() -> None:
    torch.manual_seed(0)
    model, x = mlp(relu, depth=22), torch.randn(64, 256)
    chain = gct.audit(model, x).chains[0]
    after = gct.fix(model, x).after
    assert after is not None
    assert after.measured_decades is not None
    assert after.measured_decades > 1.4
    assert chain.predicted_decades_with_bn == pytest.approx(after.measured_decades, abs=0.1)


@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_norms_forecast_are_norms_there(kind: str) -> None:
    torch.manual_seed(0)
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}
    plain, x = mlp(relu, depth=8), torch.randn(32, 256)
    normed = mlp(norms[kind], relu, depth=8)
    for ours, theirs in zip(plain[::2], normed[::3], strict=True):
        theirs.load_state_dict(ours.state_dict())
    blocks = (reader := forecaster(plain, x)).structure.chains[0]
    whole = forecaster(normed, x)
    calls = whole.structure.calls
    expected = whole._flow.decades(calls[0], calls[7])  # type: ignore[union-attr]
    assert reader.predict_with_norms(blocks, kind).decades == pytest.approx(expected.decades, abs=1e-3)


def test_fewer_norms_explode_less_and_smaller_batches_more() -> None:
    torch.manual_seed(0)
    reader = forecaster(mlp(relu, depth=16), torch.randn(64, 256))
    blocks = reader.structure.chains[0]
    every, some = (reader.predict_with_norms(blocks, behind=behind).decades for behind in (blocks, blocks[::4]))
    small = reader.predict_with_norms(blocks, batch_size=8).decades
    none = reader.predict_with_norms(blocks, behind=()).decades
    assert none == reader.predict(blocks).decades
    assert every is not None
    assert some is not None
    assert small is not None
    assert abs(some) < every < small


def test_an_unknown_kind_of_norm_is_refused() -> None:
    reader = forecaster(mlp(relu, depth=4), torch.randn(8, 256))
    with pytest.raises(ValueError, match="no kind of norm: 'weight'"):
        reader.predict_with_norms(reader.structure.chains[0], "weight")


def test_batch_norm_behind_a_sequence_is_not_forecast() -> None:
    reader = forecaster(mlp(relu, depth=4), torch.randn(8, 5, 256))
    assert "wrong axis" in str(reader.predict_with_norms(reader.structure.chains[0]).reason)


def test_the_text_warns_of_what_batch_norm_would_do() -> None:
    torch.manual_seed(0)
    text = str(gct.audit(mlp(relu, depth=22), torch.randn(64, 256)))
    assert "with batch norm behind every block it would be predicted to grow" in text
    assert "with batch norm" not in str(gct.audit(mlp(relu, depth=6), torch.randn(64, 256)))


def test_the_random_state_stays_as_it_was() -> None:
    reader = forecaster(mlp(nn.BatchNorm1d, relu, depth=2), torch.zeros(8, 256))
    before, other = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert reader.forecast().decades is not None
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == other
