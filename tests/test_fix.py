"""Batch norm put into a model by the library: where it goes and where not, and what the fixed model is good for."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gradcheck_tool as gct

WIDTH = 16


def plain(depth: int = 6, activation: Callable[[], nn.Module] = nn.Sigmoid, width: int = WIDTH) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def vectors(count: int = 32, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def after(result: gct.FixResult) -> list[tuple[str, str, int]]:
    return [(entry.after, entry.norm, entry.num_features) for entry in result.plan]


class Of(nn.Module):
    """`call` on the layers given, by their names."""

    def __init__(self, call: Callable[[Any, Any], Any], **layers: Any) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.call(self, x)


# what goes where


def convolutions(dims: int, transposed: bool = False) -> nn.Sequential:
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    return nn.Sequential(
        kind(3, 5, 3, padding=1), nn.ReLU(), kind(5, 7, 3, padding=1), nn.ReLU(), kind(7, 2, 3, padding=1)
    )


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])
def test_a_convolution_gets_the_batch_norm_of_its_dimensions(dims: int, transposed: bool) -> None:
    result = gct.fix(convolutions(dims, transposed), torch.randn(4, 3, *[6] * dims), min_depth=1)
    assert after(result) == [("0", f"BatchNorm{dims}d", 5), ("2", f"BatchNorm{dims}d", 7)]
    assert result.model(torch.randn(3, 3, *[6] * dims)).shape == (3, 2, *[6] * dims)


def test_a_linear_gets_batch_norm_over_its_features_and_the_head_gets_none() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 9), nn.ReLU(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 4), nn.Sigmoid())
    assert after(gct.fix(model, vectors(), min_depth=1)) == [("0", "BatchNorm1d", 9), ("2", "BatchNorm1d", 5)]


def test_the_norm_stands_between_the_layer_and_its_activation() -> None:
    model, x = plain(1), vectors()
    fixed = gct.fix(model, x, min_depth=1).model
    expected = model[2](model[1](nn.BatchNorm1d(WIDTH)(model[0](x))))
    assert torch.allclose(fixed.train()(x), expected, atol=1e-6)


def test_functional_layers_get_a_norm() -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(x @ self.W + self.b)
        h = torch.sigmoid(F.linear(h, self.V))
        images = F.relu(F.conv2d(h[:, None, None, :], self.K))
        return self.head(images.flatten(1))

    parameters = {"W": (WIDTH, 9), "b": (9,), "V": (11, 9), "K": (3, 1, 1, 4)}
    model = Of(call, head=nn.Linear(24, 2), **{name: nn.Parameter(torch.randn(s)) for name, s in parameters.items()})
    result = gct.fix(model, vectors(), min_depth=1)
    assert after(result) == [("W", "BatchNorm1d", 9), ("V", "BatchNorm1d", 11), ("K", "BatchNorm2d", 3)]
    assert result.model(vectors(5)).shape == (5, 2)


def test_a_shared_layer_gets_a_norm_for_each_of_its_calls() -> None:
    model = Of(lambda m, x: m.head(F.relu(m.a(F.relu(m.a(x))))), a=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, 2))
    result = gct.fix(model, vectors(), min_depth=1)
    assert [entry.after for entry in result.plan] == ["a", "a@2"]
    norms = [module for module in result.model.modules() if isinstance(module, nn.BatchNorm1d)]
    assert len({id(norm) for norm in norms}) == 2


@pytest.mark.parametrize(
    ("depth", "min_depth", "count"),
    [
        pytest.param(4, 4, 4, id="as deep as asked"),
        pytest.param(3, 4, 0, id="less deep than asked"),
        pytest.param(3, 3, 3, id="less deep, and less asked"),
    ],
)
def test_only_chains_of_min_depth_are_covered(depth: int, min_depth: int, count: int) -> None:
    assert len(gct.fix(plain(depth), vectors(), min_depth=min_depth).plan) == count


def recurrent() -> nn.Module:
    def call(self: Any, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], WIDTH)
        for step in x.unbind(1):
            h = torch.tanh(self.a(step) + self.b(h))
        return self.head(h)

    return Of(call, a=nn.Linear(WIDTH, WIDTH), b=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, 2))


def two_of(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(
        wrap(nn.Linear(WIDTH, WIDTH)), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
    )


def from_the_left() -> nn.Module:
    call = lambda m, x: m.head(torch.relu(m.W @ x.T).T)  # noqa: E731
    return Of(call, W=nn.Parameter(torch.randn(9, WIDTH)), head=nn.Linear(9, 2))


def one_row() -> nn.Module:
    call = lambda m, x: m.head(torch.relu(m.a(x.mean(0, keepdim=True)))) + x[:, :2]  # noqa: E731
    return Of(call, a=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, 2))


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("build", "shape", "skipped", "reason"),
    [
        pytest.param(lambda: plain(2), (8, 5, WIDTH), {"0", "2"}, "is a sequence", id="a sequence, of channels last"),
        pytest.param(lambda: plain(2), (WIDTH,), {"0", "2"}, "has no batch dimension", id="no batch"),
        pytest.param(
            lambda: convolutions(2), (3, 6, 6), {"0", "2"}, "has no batch dimension", id="an image without a batch"
        ),
        pytest.param(recurrent, (8, 6, WIDTH), {"a", "b"}, "it is stepped", id="the cell of a recurrence"),
        pytest.param(
            lambda: two_of(parametrizations.spectral_norm),
            (8, WIDTH),
            {"0"},
            "bound by a parametrization",
            id="parametrized",
        ),
        pytest.param(
            lambda: two_of(nn.utils.spectral_norm), (8, WIDTH), {"0"}, "bound by a parametrization", id="spectral norm"
        ),
        pytest.param(
            from_the_left, (8, WIDTH), {"W"}, "channels are not the last dimension", id="a weight from the left"
        ),
        pytest.param(one_row, (8, WIDTH), {"a"}, "one value per channel", id="an output of one row"),
    ],
)
def test_a_layer_is_skipped_with_the_reason(
    build: Callable[[], nn.Module], shape: tuple[int, ...], skipped: set[str], reason: str
) -> None:
    result = gct.fix(build(), torch.randn(shape), min_depth=1)
    names = {skip.layer.partition("@")[0] for skip in result.skipped}
    assert names == skipped
    assert all(reason in skip.reason for skip in result.skipped)
    assert not names & {entry.after for entry in result.plan}


# the new norms


@pytest.mark.parametrize(
    ("equation", "count"),
    [
        pytest.param("bi,io->bo", 1, id="the weight's index last"),
        pytest.param("bi,io->ob", 0, id="the batch last"),
        pytest.param("bi,io", 0, id="no result named"),
    ],
)
def test_an_einsum_gets_a_norm_where_its_channels_are_last(equation: str, count: int) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(torch.einsum(equation, x, self.W))
        return self.head(h if h.shape[0] == len(x) else h.T)

    result = gct.fix(Of(call, W=nn.Parameter(torch.randn(WIDTH, 9)), head=nn.Linear(9, 2)), vectors(), min_depth=1)
    assert (len(result.plan), len(result.skipped)) == (count, 1 - count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_norm_has_the_dtype_of_its_layer_and_fresh_statistics(dtype: torch.dtype) -> None:
    fixed = gct.fix(plain(4).to(dtype), vectors().to(dtype)).model
    norms = [module for module in fixed.modules() if isinstance(module, nn.BatchNorm1d)]
    assert len(norms) == 4
    for norm in norms:
        assert norm.weight.dtype == dtype
        assert norm.running_mean.abs().max() == 0
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
        assert norm.num_batches_tracked == 0
        assert norm.weight.grad is None


def test_a_norm_has_the_mode_of_its_layer() -> None:
    model = plain(4)
    model[2].eval()
    fixed = gct.fix(model, vectors()).model
    assert [fixed.get_submodule(f"{index}_norm").training for index in (0, 2, 4, 6)] == [True, False, True, True]


def test_a_model_in_evaluation_mode_stays_in_it_with_its_norms() -> None:
    model = plain(4).eval()
    fixed = gct.fix(model, vectors()).model
    assert not any(module.training for module in [*fixed.modules(), *model.modules()])


def test_a_model_on_the_meta_device_is_fixed_there_and_not_measured() -> None:
    with torch.device("meta"):
        model = plain(5)
    result = gct.fix(model, torch.randn(8, WIDTH, device="meta"))
    assert (result.before, result.after, result.improved) == (None, None, None)
    assert len(result.plan) == 5
    assert {tensor.device.type for tensor in result.model.state_dict().values()} == {"meta"}


# the weights


def test_every_key_of_the_old_state_dict_is_there_with_its_values() -> None:
    model = plain()
    fixed = gct.fix(model, vectors()).model.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(fixed[key], value)


def test_an_old_state_dict_can_be_loaded() -> None:
    old, fixed = plain(), gct.fix(plain(), vectors()).model
    for parameter in old.parameters():
        nn.init.normal_(parameter)
    missing, unexpected = fixed.load_state_dict(old.state_dict(), strict=False)
    assert not unexpected
    assert all("_norm" in key for key in missing)
    assert torch.equal(fixed.get_parameter("0.weight"), old[0].weight)


def test_the_model_that_was_given_is_untouched_and_shares_nothing_with_the_fixed_one() -> None:
    model, x = plain(), vectors()
    state, children = copy.deepcopy(model.state_dict()), list(model.named_modules())
    fixed = gct.fix(model, x).model
    optimizer = torch.optim.SGD(fixed.parameters(), 1.0)
    fixed.train()(x).square().sum().backward()
    optimizer.step()
    assert list(model.named_modules()) == children
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.equal(fixed.get_parameter("12.weight"), model[12].weight)


# what the fixed model can do


@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_it_takes_any_batch_in_training(count: int) -> None:
    assert gct.fix(plain(), vectors(8)).model.train()(vectors(count)).shape == (count, 4)


@pytest.mark.parametrize("count", [1, 5])
def test_it_takes_any_batch_in_evaluation(count: int) -> None:
    assert gct.fix(plain(), vectors(8)).model.eval()(vectors(count)).shape == (count, 4)


def pickled(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(copy.deepcopy, id="deep copy"),
        pytest.param(lambda model: pickle.loads(pickle.dumps(model)), id="pickle"),
        pytest.param(pickled, id="torch.save"),
    ],
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_copy_computes_the_same_at_another_batch_size(
    duplicate: Callable[[nn.Module], nn.Module], training: bool
) -> None:
    fixed = gct.fix(plain(), vectors(8)).model.train(training)
    twin, x = duplicate(fixed), vectors(5)
    assert torch.equal(twin(x), fixed(x))
    twin.eval()
    assert fixed.training is training


def test_it_goes_through_torch_export_with_a_dynamic_batch() -> None:
    fixed = gct.fix(plain(), vectors(8)).model.eval()
    exported = torch.export.export(fixed, (vectors(8),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    assert torch.allclose(exported.module()(vectors(5)), fixed(vectors(5)), atol=1e-6)


def test_it_trains_where_the_old_model_does_not() -> None:
    x = vectors(64)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()

    def loss_after(model: nn.Module) -> float:
        optimizer = torch.optim.SGD(model.train().parameters(), 0.5, momentum=0.9)
        for _ in range(40):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    model = plain(8)
    fixed = gct.fix(model, x).model
    assert loss_after(fixed) < 0.8 < 1.2 < loss_after(model)


class Auxiliary(nn.Module):
    """Has one layer more in training than in evaluation, as Inception has."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux = plain(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return (y, self.aux(y)) if self.training else y


def test_a_model_whose_structure_hangs_on_its_mode_gets_its_norms_in_both() -> None:
    result = gct.fix(Auxiliary(), vectors())
    fixed = result.model
    assert [len(graph.find_nodes(op="call_module", target="body.0_norm")) for graph in fixed.graphs] == [1, 1]
    assert len(fixed.train()(vectors())) == 2
    nn.init.constant_(fixed.get_submodule("body.0_norm").running_mean, 3.0)
    nn.init.constant_(fixed.get_submodule("body.0_norm").running_var, 4.0)
    manual = result.model.eval()(vectors())
    nn.init.constant_(fixed.get_submodule("body.0_norm").running_mean, 0.0)
    assert not torch.equal(manual, fixed(vectors()))


def test_a_fixed_model_has_nothing_left_to_fix() -> None:
    again = gct.fix(gct.fix(plain(), vectors()).model, vectors())
    assert (again.plan, again.skipped, again.improved, again.diff) == ((), (), None, "")


# whether it helped


def he(depth: int) -> nn.Module:
    model = plain(depth, nn.ReLU, 64)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return model


def test_a_vanishing_chain_is_healed() -> None:
    result = gct.fix(plain(12), vectors())
    assert result.before is not None
    assert result.after is not None
    assert (result.before.verdict, result.after.verdict, result.improved) == ("vanishing", "healthy", True)
    assert result.before.measured_over == result.after.measured_over == ("0", "22")


def test_a_deep_net_that_batch_norm_would_make_explode_is_not_improved() -> None:
    result = gct.fix(he(40), vectors(32, 64))
    assert result.before is not None
    assert result.after is not None
    assert (result.before.verdict, result.after.verdict, result.improved) == ("healthy", "exploding", False)


def test_before_and_after_are_measured_over_the_same_layers_where_some_are_frozen() -> None:
    model = plain(12)
    model[:6].requires_grad_(False)
    result = gct.fix(model, vectors())
    assert result.before is not None
    assert result.after is not None
    assert result.before.measured_over == result.after.measured_over == ("6", "22")


def profile(verdict: str, decades: float | None) -> gct.GradientProfile:
    measured = gct.probe(nn.Linear(2, 2), torch.ones(3, 2))
    return type(measured)(**{**vars(measured), "verdict": verdict, "measured_decades": decades})


@pytest.mark.parametrize(
    ("before", "after", "improved"),
    [
        pytest.param(("vanishing", -5.0), ("healthy", -0.5), True, id="healed"),
        pytest.param(("dead", None), ("healthy", None), True, id="healed of what has no decades"),
        pytest.param(("vanishing", -9.0), ("vanishing", -5.0), True, id="less of the same"),
        pytest.param(("vanishing", -math.inf), ("vanishing", -5.0), True, id="from zero to something"),
        pytest.param(("healthy", -2.5), ("healthy", 0.2), True, id="flatter, and healthy before"),
        pytest.param(("vanishing", -5.0), ("vanishing", -4.5), False, id="too little"),
        pytest.param(("vanishing", -5.0), ("exploding", 2.0), False, id="another bad verdict"),
        pytest.param(("vanishing", -5.0), ("exploding", 7.0), False, id="moved and grown"),
        pytest.param(("healthy", 0.1), ("healthy", 0.2), False, id="healthy all along"),
        pytest.param(("vanishing", -5.0), ("non-finite", math.nan), False, id="not a number any more"),
    ],
)
def test_improved(before: tuple[str, float | None], after: tuple[str, float | None], improved: bool) -> None:
    from gradcheck_tool.remedy.outcome import improved as judged

    assert judged(profile(*before), profile(*after)) is improved
