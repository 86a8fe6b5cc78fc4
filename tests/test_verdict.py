"""The verdicts: each has a model that gets it, and near misses that do not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool import chances
from gradcheck_tool.chances import ENOUGH, HARM, Chance
from gradcheck_tool.probing.changes import decades_between, underflowed
from gradcheck_tool.results import Divergence, LayerGradient, Learning, Verdict
from gradcheck_tool.thresholds import DEAD_FRACTION, EXPLANATION
from gradcheck_tool.verdict import Evidence, chance, in_words, judge

WIDTH = 64


def plain(
    depth: int, activation: Callable[[], nn.Module] = nn.ReLU, norm: Any = None, gain: float = 0.0
) -> nn.Sequential:
    """Blocks and a head; `gain`, where given, is the standard deviation of the weights times the root of the width."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), *([norm(WIDTH)] if norm else []), activation()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    for layer in model:
        if gain and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=gain / WIDTH**0.5)
    return model


def changed(model: nn.Sequential, layer: int, **values: float) -> nn.Sequential:
    for name, value in values.items():
        nn.init.constant_(getattr(model[layer], name), value)
    return model


class Model(nn.Module):
    """Two layers and a head; `way` says what happens between them."""

    def __init__(self, way: Callable[[Model, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)
        self.gain = nn.Parameter(torch.zeros(WIDTH))
        self.way = way

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)


def dead_share(share: float) -> nn.Sequential:
    """A net in whose second block this share of the units never fires."""
    model = changed(plain(3), 2, bias=5.0)
    model[2].bias.data[: round(share * WIDTH)] = -50.0
    return model


def infinite_slope(self: Model, h: Tensor) -> Tensor:
    return self.head(torch.sqrt(h - h.detach()))


def without_grad(self: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = torch.relu(self.a(x))
    return self.head(torch.relu(self.b(h)))


def probe(model: nn.Module, **options: Any) -> gct.GradientProfile:
    generator = torch.Generator().manual_seed(0)
    return gct.probe(model, torch.randn(32, WIDTH, generator=generator), **options)


SICK = [
    pytest.param(
        lambda: plain(12, nn.Sigmoid), "vanishing", "from 22 back to 0 the gradient norm shrinks", id="sigmoids"
    ),
    pytest.param(
        lambda: plain(12, nn.ReLU), "vanishing", "from 22 back to 0 the gradient norm shrinks", id="small weights"
    ),
    pytest.param(
        lambda: plain(40, nn.Identity), "vanishing", "last quarter", id="forty linear layers, which are no chain"
    ),
    pytest.param(
        lambda: plain(10, nn.ReLU, gain=4.0),
        "exploding",
        "from 18 back to 0 the gradient norm grows",
        id="large weights",
    ),
    pytest.param(
        lambda: plain(40, nn.ReLU, nn.BatchNorm1d),
        "exploding",
        "the weight's gradient times the weight",
        id="forty blocks of batch norm",
    ),
    pytest.param(lambda: dead_share(1.0), "dead", "100% of the units of 2 are zero", id="a block that never fires"),
    pytest.param(
        lambda: dead_share(0.75), "dead", "75% of the units of 2 are zero", id="three units of four that never fire"
    ),
    pytest.param(lambda: plain(2, nn.Tanh, gain=60.0), "saturated", "are at their bound", id="tanh with huge weights"),
    pytest.param(
        lambda: Model(lambda m, x: m.head(torch.relu(m.a(x)).detach())),
        "no-gradient",
        "no gradient reaches a:",
        id="detach",
    ),
    pytest.param(
        lambda: Model(without_grad), "no-gradient", "no gradient reaches a:", id="trainable layers under no_grad"
    ),
    pytest.param(
        lambda: Model(lambda m, x: m.head(torch.relu(m.b(torch.log(torch.relu(m.a(x))))))),
        "non-finite",
        "is the output of log",
        id="the logarithm of zero",
    ),
    pytest.param(
        lambda: changed(plain(3), 2, weight=math.nan),
        "non-finite",
        "is the output of 2",
        id="a weight that is not a number",
    ),
    pytest.param(
        lambda: Model(lambda m, x: infinite_slope(m, m.a(x))),
        "non-finite",
        "is the gradient of the output of a",
        id="an infinite slope, in backward alone",
    ),
]

WELL = [
    pytest.param(lambda: plain(3), id="a shallow net"),
    pytest.param(lambda: plain(30, nn.ReLU, gain=2**0.5), id="a deep net with He's weights"),
    pytest.param(lambda: plain(15, nn.ReLU, nn.BatchNorm1d), id="fifteen blocks of batch norm"),
    pytest.param(lambda: plain(40, nn.ReLU, nn.LayerNorm), id="forty blocks of layer norm"),
    pytest.param(lambda: changed(plain(4), 6, weight=0.0), id="a zero layer, which fills"),
    pytest.param(lambda: dead_share(0.65), id="fewer dead units than the threshold"),
    pytest.param(lambda: plain(2, nn.Tanh, gain=2.0), id="a few saturated units"),
    pytest.param(lambda: frozen(plain(3), 4), id="frozen layers"),
    pytest.param(lambda: Model(lambda m, x: m.head(torch.relu(m.a(x)))), id="a layer that is not used"),
    pytest.param(
        lambda: Model(lambda m, x: (m.b(x) * 0).sum() * 0 + m.head(torch.relu(m.a(x)))), id="a layer times nought"
    ),
]


def frozen(model: nn.Sequential, layers: int) -> nn.Sequential:
    model[:layers].requires_grad_(False)
    return model


@pytest.mark.parametrize(("build", "verdict", "reason"), SICK)
def test_a_sick_model_gets_its_verdict_and_the_reason(
    build: Callable[[], nn.Module], verdict: str, reason: str
) -> None:
    profile = probe(build())
    assert (profile.verdict, reason in profile.reasons[0]) == (verdict, True), profile.reasons


@pytest.mark.parametrize("build", WELL)
def test_a_near_miss_is_healthy(build: Callable[[], nn.Module]) -> None:
    profile = probe(build())
    assert profile.verdict == "healthy", profile.reasons


@pytest.mark.parametrize("scale", [1e-6, 1e6], ids=["a millionth", "a million"])
@pytest.mark.parametrize("build", [*(pytest.param(p.values[0], id=p.id) for p in SICK), *WELL])
def test_the_scale_of_the_loss_changes_no_verdict(build: Callable[[], nn.Module], scale: float) -> None:
    weights = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))

    def loss(factor: float) -> Callable[[Tensor, Any], Tensor]:
        return lambda output, _: factor * (output * weights).sum()

    assert probe(build(), loss_fn=loss(scale)).verdict == probe(build(), loss_fn=loss(1.0)).verdict


# zeros


class Lora(nn.Module):
    """A frozen layer, and the product of two small ones beside it of which the second starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base, self.head = nn.Linear(WIDTH, WIDTH).requires_grad_(False), nn.Linear(WIDTH, 3)
        self.down, self.up = nn.Linear(WIDTH, 4, bias=False), nn.Linear(4, WIDTH, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.base(x) + self.up(self.down(x))))


def gated(self: Model, x: Tensor) -> Tensor:
    return self.head(torch.relu(x + self.gain * self.b(torch.relu(self.a(x)))))


ZEROS = [
    pytest.param(lambda: changed(plain(6), 12, weight=0.0), "beneath 12.weight, which is zero", id="a zero head"),
    pytest.param(
        lambda: changed(plain(6), 4, weight=0.0), "at 0, 2, beneath 4.weight", id="a zero layer in the middle"
    ),
    pytest.param(Lora, "at down, beneath up.weight, which is zero", id="the B of LoRA"),
    pytest.param(lambda: Model(gated), "at a, b, beneath gain, which is zero", id="LayerScale or ReZero at zero"),
    pytest.param(
        lambda: changed(plain(3, nn.Tanh, nn.BatchNorm1d), 4, weight=0.0),
        "at 0, 3, beneath 4.weight",
        id="the gain of a norm",
    ),
    pytest.param(
        lambda: changed(plain(6), 12, weight=0.0).half(), "beneath 12.weight", id="a zero head in half precision"
    ),
]


@pytest.mark.parametrize(("build", "reason"), ZEROS)
def test_zeros_beneath_what_starts_at_zero_are_a_reason_and_no_verdict(
    build: Callable[[], nn.Module], reason: str
) -> None:
    model = build()
    dtype = next(model.parameters()).dtype
    profile = gct.probe(model, torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype))
    assert profile.verdict == "healthy", profile.reasons
    assert reason in profile.reasons[-1]
    assert "zero gradient at this step" in profile.reasons[-1]
    assert profile.measured_decades is None or math.isfinite(profile.measured_decades)


@pytest.mark.parametrize(
    ("build", "dtype"),
    [
        pytest.param(lambda: plain(80, nn.Sigmoid), torch.float32, id="eighty sigmoids"),
        pytest.param(lambda: plain(30, nn.Sigmoid), torch.float16, id="thirty sigmoids in half precision"),
        pytest.param(lambda: plain(20, nn.ReLU, gain=1e-3), torch.float32, id="weights of a thousandth"),
    ],
)
def test_an_underflow_to_zero_is_vanishing(build: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(0))
    profile = gct.probe(build().to(dtype), x.to(dtype))
    assert (profile.verdict, profile.measured_decades) == ("vanishing", -math.inf)
    assert "too small for its dtype" in profile.reasons[-1]


def test_a_unit_that_is_fed_zeros_by_a_gain_is_not_dead() -> None:
    model = changed(plain(2, nn.LeakyReLU, nn.BatchNorm1d), 4, weight=0.0)
    profile = probe(model)
    assert profile.layers[1].dead_fraction == 0.0
    assert profile.layers[1].activation_std == 0.0


def test_units_that_were_seen_once_are_not_called_dead() -> None:
    profile = gct.probe(plain(3), torch.randn(1, WIDTH))
    assert [layer.dead_fraction for layer in profile.layers] == [None] * 4


def test_an_output_that_the_loss_does_not_use_cuts_nothing() -> None:
    model = Model(lambda m, x: {"main": m.head(torch.relu(m.a(x))), "side": m.b(x)})
    profile = probe(model, loss_fn=lambda output, _: output["main"].square().mean())
    assert profile.verdict == "healthy", profile.reasons


def test_a_cut_behind_the_output_that_the_loss_uses_is_told_from_one_that_it_does_not() -> None:
    model = Model(lambda m, x: {"main": m.head(torch.relu(m.a(x)).detach()), "side": m.b(x)})
    profile = probe(model, loss_fn=lambda output, _: output["main"].square().mean())
    assert profile.reasons[0] == "no gradient reaches a: the graph is cut on the way"


# the order of the verdicts, and the words


def layer(**changes: Any) -> LayerGradient:
    figures = {
        "grad_norm": 1.0,
        "output_grad_norm": 1.0,
        "weight_norm": 1.0,
        "activation_mean": 0.0,
        "activation_std": 1.0,
    }
    return LayerGradient(**{"name": "fc", "dead_fraction": 0.0, "saturated_fraction": 0.0, **figures, **changes})


def test_the_verdict_is_the_first_that_holds_and_the_others_are_reasons() -> None:
    everything = Evidence(
        [layer(dead_fraction=0.9, saturated_fraction=0.9)],
        -5.0,
        ("fc1", "fc9"),
        growth=3.0,
        growth_over=("fc1", "fc9"),
        non_finite="the output of fc3",
        without_gradient=["fc"],
        zeros=["fc is zero"],
    )
    verdict, reasons = judge(everything)
    words = [
        "not finite",
        "no gradient reaches",
        "are zero for every",
        "shrinks",
        "grows",
        "at their bound",
        "fc is zero",
    ]
    assert verdict == "non-finite"
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


WELL = Evidence([layer()])
SHRINKING = Evidence([layer()], -5.0, ("fc1", "fc9"))
GROWING = replace(SHRINKING, change=7.0)
ALIKE = Evidence([layer(input_spread=1.0), layer(input_spread=1e-7)])
LARGE = Evidence([layer(), layer(input_scale=1e5)])
SATURATED = Evidence([layer(saturated_fraction=0.99)])


@pytest.mark.parametrize(
    ("evidence", "given"),
    [
        pytest.param(WELL, chances.SOUND, id="well"),
        pytest.param(replace(WELL, noisy=True), chances.NOISY, id="well, with dropout"),
        pytest.param(SHRINKING, chances.SHRINKING, id="shrinking"),
        pytest.param(GROWING, chances.GROWING, id="exploding"),
        pytest.param(LARGE, chances.GROWING, id="large numbers"),
        pytest.param(SATURATED, chances.GROWING, id="saturated"),
        pytest.param(ALIKE, chances.SHRINKING, id="all samples alike"),
        pytest.param(Evidence([layer(dead_fraction=0.9)]), None, id="dead"),
        pytest.param(replace(WELL, non_finite="the output of fc"), None, id="not finite"),
        pytest.param(replace(WELL, without_gradient=["fc"]), None, id="cut"),
    ],
)
def test_training_can_change_a_verdict_where_figures_leave_it_open(evidence: Evidence, given: Chance | None) -> None:
    assert chance(evidence) == given
    by_figures = judge(evidence)[0]
    if given is None:
        assert all(judge(evidence, learning=Learning(1.0, learns, 4, 4))[0] == by_figures for learns in (True, False))
        return
    found, reasons = judge(evidence, learning=Learning(ENOUGH, True, 4, 4))
    assert found == "healthy"
    assert [reason.startswith("yet after 4 steps") for reason in reasons] == ([] if given.patient else [False, True])
    found, reasons = judge(evidence, learning=Learning(0.001, False, 32, 32))
    assert found == ("vanishing" if given.patient else by_figures)
    assert reasons[0].endswith("it hardly learns its own batch") == given.patient


@pytest.mark.parametrize(
    ("explained", "verdict"),
    [
        pytest.param(-HARM - 0.01, "healthy", id="still too large"),
        pytest.param(-HARM + 0.01, "vanishing", id="no worse than the mean"),
        pytest.param(0.3, "vanishing", id="too little"),
    ],
)
def test_what_looks_well_has_to_learn(explained: float, verdict: Verdict) -> None:
    assert judge(WELL, learning=Learning(explained, False, 64, 64))[0] == verdict


@pytest.mark.parametrize(
    ("evidence", "learns", "verdict"),
    [
        pytest.param(WELL, False, "exploding", id="what looks well"),
        pytest.param(WELL, True, "healthy", id="what lasts at another rate"),
        pytest.param(SHRINKING, False, "vanishing", id="what has a verdict already"),
    ],
)
def test_what_diverges_is_not_well(evidence: Evidence, learns: bool, verdict: Verdict) -> None:
    found, reasons = judge(evidence, learning=Learning(0.1, learns, 68, 64, diverged=Divergence(0.01, 4)))
    assert found == verdict
    said = "after 4 steps of Adam at a learning rate of 0.01 the loss has diverged"
    assert (said in reasons) == (verdict == "exploding")


@pytest.mark.parametrize(
    ("decades", "words"),
    [
        pytest.param(-0.1, "shrinks 1.3-fold", id="a little"),
        pytest.param(-3.2, "shrinks 1,600-fold", id="thousands"),
        pytest.param(9.347, "grows 2.2e9-fold", id="billions"),
        pytest.param(-24.94, "shrinks 8.7e24-fold", id="more"),
        pytest.param(1.99999, "grows 100-fold", id="rounded up to the next power"),
        pytest.param(-math.inf, "falls to exactly zero", id="to zero"),
    ],
)
def test_a_change_is_said_in_short(decades: float, words: str) -> None:
    assert in_words(decades) == words


@pytest.mark.parametrize(
    ("first", "last", "decades"),
    [
        pytest.param(1e-3, 1.0, -3.0, id="a fall"),
        pytest.param(0.0, 1.0, -math.inf, id="a fall to zero"),
        pytest.param(None, 1.0, None, id="no first"),
        pytest.param(0.0, 0.0, None, id="both zero"),
        pytest.param(math.nan, 1.0, None, id="not a number"),
    ],
)
def test_decades_between(first: float | None, last: float | None, decades: float | None) -> None:
    assert decades_between(first, last) == decades


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        pytest.param([0.0, 1e-44, 1e-38, 1e-32], True, id="below the smallest number of the dtype"),
        pytest.param([0.0, 1e-30, 1e-12, 1.0], True, id="a steep fall that would go on below it"),
        pytest.param([0.0, 1e-6, 1e-5], False, id="a normal gradient above"),
        pytest.param([1.0, 1.0], False, id="no zero"),
        pytest.param([0.0, 0.0], False, id="nothing but zeros"),
    ],
)
def test_zero_is_an_underflow_after(norms: list[float], expected: bool) -> None:
    assert underflowed(norms, [1e-37] * len(norms)) is expected


def test_the_explanation_names_every_verdict_and_threshold_and_needs_no_torch() -> None:
    code = "import sys; from gradcheck_tool.thresholds import EXPLANATION; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    for word in ("non-finite", "no-gradient", "dead", "vanishing", "exploding", "saturated", "healthy"):
        assert f"\n{word} " in EXPLANATION
    assert f"{DEAD_FRACTION:.0%}" in EXPLANATION
    assert max(map(len, EXPLANATION.splitlines())) <= 120
