"""Biases dropped where a fix puts batch norm: which, that nothing but the bias is gone, and that the numbers agree."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import Net, alexnet, image, linears, vgg
from torch import Tensor, nn

from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import CapturedModule, capture
from gradcheck_tool.inputs import for_model
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.bias import drop_biases, void_biases
from gradcheck_tool.remedy.insert_norm import InsertNorm, insertions_of
from gradcheck_tool.remedy.rewrite import insert
from gradcheck_tool.results import Insertion

VECTORS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def fixed_and_void(model: nn.Module, x: Tensor, min_depth: int = 1) -> tuple[CapturedModule, tuple[str, ...]]:
    """`model` with a batch norm behind each block, and the layers whose bias they make void."""
    inputs = for_model(model, x, None, 0)
    structure = read(model, inputs).structure
    plan = insertions_of(InsertNorm().plan(Case(model, inputs, structure, min_depth)))
    return insert(capture(model, inputs)[0], plan), void_biases(structure, model, plan)


def mlp(depth: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(8, 8), nn.Tanh())], nn.Linear(8, 2))


def upwards() -> nn.Sequential:
    layers = (nn.ConvTranspose2d(3, 4, 2, 2), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2), nn.ELU())
    return nn.Sequential(*layers, nn.Conv2d(4, 2, 1))


def twice(net: Net, x: Tensor) -> Tensor:
    return net.out(torch.tanh(net.f(torch.tanh(net.f(x)))))


def pair(**parts: Any) -> dict[str, Any]:
    return {"f": nn.Linear(8, 8), "out": nn.Linear(8, 2)} | parts


# which biases


def tied() -> Net:
    net = Net(lambda net, x: net.out(torch.tanh(net.g(torch.tanh(net.f(x))))), **pair(g=nn.Linear(8, 8)))
    net.g.bias = net.f.bias
    return net


def shared_with_the_head() -> Net:
    net = Net(lambda net, x: net.out(torch.tanh(net.f(x))), **pair(out=nn.Linear(8, 8)))
    net.out.bias = net.f.bias
    return net


def frozen_bias() -> nn.Module:
    model = mlp(2)
    model[0].bias.requires_grad_(False)
    return model


def hooked() -> nn.Module:
    model = mlp(2)
    model[0].register_forward_hook(lambda module, args, output: output.abs())
    return model


def partly_evaluating() -> nn.Module:
    model = mlp(2)
    model[0].eval()
    return model


BIASES = [
    pytest.param(mlp, VECTORS, ("0", "2", "4", "6"), id="each block's, and not the head's"),
    pytest.param(lambda: mlp().eval(), VECTORS, ("0", "2", "4", "6"), id="whatever the mode"),
    pytest.param(upwards, image(), ("0", "2"), id="transposed convolutions"),
    pytest.param(lambda: Net(twice, **pair()), VECTORS, ("f",), id="a layer called twice, both times in a block"),
    pytest.param(
        lambda: Net(lambda net, x: twice(net, x) + net.f(x)[:, :2], **pair()),
        VECTORS,
        (),
        id="not where one call is in no block",
    ),
    pytest.param(tied, VECTORS, (), id="not one that two layers share"),
    pytest.param(shared_with_the_head, VECTORS, (), id="not one that the head shares"),
    pytest.param(
        lambda: Net(lambda net, x: net.out(torch.tanh(net.f(x))) + net.f.bias.sum(), **pair()),
        VECTORS,
        (),
        id="not one that is read elsewhere",
    ),
    pytest.param(frozen_bias, VECTORS, ("2",), id="not one that is frozen"),
    pytest.param(hooked, VECTORS, ("2",), id="not one behind which a hook stands"),
    pytest.param(partly_evaluating, VECTORS, ("2",), id="not one whose norm will evaluate"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
        VECTORS,
        ("2",),
        id="not where there is none",
    ),
    pytest.param(lambda: mlp(2), torch.randn(4, 5, 8), (), id="not on sequences, which get no batch norm"),
    pytest.param(
        lambda: Net(lambda net, x: net.out(torch.tanh(F.linear(x, net.f.weight, net.f.bias))), **pair()),
        VECTORS,
        (),
        id="not a function's",
    ),
]


@pytest.mark.parametrize(("build", "x", "names"), BIASES)
def test_the_biases_that_planned_norms_make_void(
    build: Callable[[], nn.Module], x: Tensor, names: tuple[str, ...]
) -> None:
    assert fixed_and_void(build(), x)[1] == names


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        pytest.param([("0", "BatchNorm1d"), ("2", "BatchNorm1d")], ("0", "2"), id="batch norm"),
        pytest.param([("0", "LayerNorm"), ("2", "BatchNorm1d")], ("2",), id="a layer norm takes no bias out"),
        pytest.param([], (), id="no norm"),
    ],
)
def test_only_batch_norms_of_the_plan_count(plan: list[tuple[str, str]], names: tuple[str, ...]) -> None:
    model = mlp(2)
    structure = read(model, for_model(model, VECTORS, None, 0)).structure
    insertions = [Insertion(after, norm, 8, None) for after, norm in plan]
    assert void_biases(structure, model, insertions) == names


def test_of_a_layer_called_twice_both_calls_must_be_planned() -> None:
    model = Net(twice, **pair())
    structure = read(model, for_model(model, VECTORS, None, 0)).structure
    both = [Insertion(name, "BatchNorm1d", 8, None) for name in ("f", "f@2")]
    assert [void_biases(structure, model, plan) for plan in (both, both[:1], both[1:])] == [("f",), (), ()]


# what is left


def randomized(model: nn.Module, std: float = 2.0) -> nn.Module:
    """With biases far from zero, so that one that counts would show."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=std)
    return model


MODELS = {
    "linear": (lambda: mlp(6), VECTORS),
    "convolutions": (vgg, image()),
    "strides and pooling": (alexnet, torch.randn(4, 3, 16, 16)),
    "transposed": (upwards, image()),
    "called twice": (lambda: Net(twice, **pair()), VECTORS),
    "three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 1), nn.ReLU(), nn.Conv3d(3, 3, 1), nn.ReLU(), nn.Conv3d(3, 1, 1)),
        torch.randn(2, 2, 3, 4, 5),
    ),
    "branches": (
        lambda: Net(
            lambda net, x: net.out(F.relu(net.f[0](x)) * torch.sigmoid(net.f[1](x))), f=linears(2), out=nn.Linear(8, 2)
        ),
        VECTORS,
    ),
}


@pytest.mark.parametrize(
    ("dtype", "std", "tolerance"),
    [
        pytest.param(torch.float32, 0.3, 1e-5, id="float32"),  # rounding, through six norms, makes up to 2e-6
        pytest.param(torch.float64, 2.0, 1e-12, id="float64"),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_in_training_the_outputs_are_the_same_without_the_biases(
    name: str, dtype: torch.dtype, std: float, tolerance: float
) -> None:
    build, x = MODELS[name]
    torch.manual_seed(0)
    model, x = randomized(build(), std).to(dtype), x.to(dtype)
    fixed, names = fixed_and_void(model, x)
    assert len(names) >= 1
    bare = drop_biases(fixed, names)
    results = []
    for module in (fixed, bare):
        torch.manual_seed(0)  # of dropout
        results.append(module.train()(x))
    torch.testing.assert_close(results[1], results[0], rtol=tolerance, atol=tolerance)


def test_the_gradients_of_what_is_left_are_the_same() -> None:
    model, x = randomized(vgg()).double(), image().double()
    fixed, names = fixed_and_void(model, x)
    bare = drop_biases(fixed, names)
    gradients = []
    for module in (fixed, bare):
        torch.manual_seed(0)
        loss = module.train()(x).square().sum()
        gradients.append(
            dict(
                zip(dict(module.named_parameters()), torch.autograd.grad(loss, list(module.parameters())), strict=True)
            )
        )
    assert gradients[0].keys() - gradients[1].keys() == {f"{name}.bias" for name in names}
    scale = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    assert all(gradients[0][f"{name}.bias"].abs().max() < 1e-12 * scale for name in names)
    for key, gradient in gradients[1].items():
        torch.testing.assert_close(gradient, gradients[0][key], rtol=1e-9, atol=1e-12 * scale)


def test_only_the_biases_are_gone_from_the_state_and_all_else_is_shared() -> None:
    fixed, names = fixed_and_void(mlp(), VECTORS)
    bare = drop_biases(fixed, names)
    old, new = dict(fixed.named_parameters()), dict(bare.named_parameters())
    assert fixed.state_dict().keys() - bare.state_dict().keys() == {f"{name}.bias" for name in names}
    assert bare.state_dict().keys() < fixed.state_dict().keys()
    assert all(parameter is old[name] for name, parameter in new.items())
    assert "bias=False" in repr(bare.get_submodule("0"))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_neither_the_model_nor_what_was_handed_over_is_touched(training: bool) -> None:
    model = randomized(mlp()).train(training)
    before = copy.deepcopy(model.state_dict())
    members = {name: dict(vars(module)) for name, module in model.named_modules()}
    inputs = for_model(model, VECTORS, None, 0)
    captured = capture(model, inputs)[0]  # which shares its layers with the model
    fixed, names = fixed_and_void(model, VECTORS)
    kept = fixed.state_dict().keys()
    drop_biases(fixed, names)
    drop_biases(captured, ["8"])
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == members
    assert fixed.state_dict().keys() == kept
    assert captured.state_dict().keys() == before.keys()


@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(copy.deepcopy, id="deep copy"),
        pytest.param(lambda module: pickle.loads(pickle.dumps(module)), id="pickle"),
    ],
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_copy_computes_the_same_at_another_batch_size(
    duplicate: Callable[[CapturedModule], CapturedModule], training: bool
) -> None:
    bare = drop_biases(*fixed_and_void(mlp(), VECTORS)).train(training)
    twin, x = duplicate(bare), torch.randn(3, 8)
    assert torch.equal(twin(x), bare(x))
    assert twin.state_dict().keys() == bare.state_dict().keys()


def test_it_trains_and_exports() -> None:
    bare = drop_biases(*fixed_and_void(mlp(), VECTORS)).train()
    optimizer = torch.optim.SGD(bare.parameters(), 0.1)
    losses = []
    for _ in range(20):
        loss = (bare(VECTORS) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4
    batch = {0: torch.export.Dim("batch", min=1)}
    exported = torch.export.export(bare.eval(), (VECTORS,), dynamic_shapes=(batch,))
    x = torch.randn(3, 8)
    torch.testing.assert_close(exported.module()(x), bare(x))


class OtherwiseInEvaluation(nn.Module):
    """Takes the layer's output itself in evaluation, or its bias."""

    def __init__(self, reads_bias: bool) -> None:
        super().__init__()
        self.body, self.out, self.reads_bias = nn.Linear(8, 8), nn.Linear(8, 2), reads_bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(torch.tanh(self.body(x)))
        if self.training:
            return y
        return y + (self.body.bias[:2] if self.reads_bias else self.body(x)[:, :2])


@pytest.mark.parametrize("reads_bias", [False, True], ids=["the output", "the bias"])
def test_a_bias_that_evaluation_needs_is_kept(reads_bias: bool) -> None:
    fixed, names = fixed_and_void(OtherwiseInEvaluation(reads_bias), VECTORS)
    assert (names, len(fixed.graphs)) == (("body",), 2)
    bare = drop_biases(fixed, names)
    assert bare.state_dict().keys() == fixed.state_dict().keys()
    assert torch.equal(bare.eval()(VECTORS), fixed.eval()(VECTORS))


@pytest.mark.parametrize("name", ["nothing", "1", "0_norm.weight"])
def test_a_name_without_a_bias_is_refused(name: str) -> None:
    fixed, _ = fixed_and_void(mlp(2), VECTORS)
    with pytest.raises(KeyError, match=f"no layer {name} with a bias"):
        drop_biases(fixed, [name])
