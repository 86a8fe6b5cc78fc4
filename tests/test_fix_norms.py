"""Each kind of norm: where it goes and where not, why, and what a model with it is good for."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from architectures import Net
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.auditing import read
from gradcheck_tool.capturing import capture
from gradcheck_tool.inputs import Inputs, for_model
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.bias import void_biases
from gradcheck_tool.remedy.insert_norm import KINDS, InsertNorm, NormKind, insertions_of
from gradcheck_tool.remedy.insert_norm.kinds import groups_of

WIDTH = 16


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp(width: int = WIDTH, depth: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *[part for _ in range(depth) for part in (nn.Linear(width, width), nn.Tanh())], nn.Linear(width, 3)
    )


def convolutions(dims: int = 2, channels: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    kind = getattr(nn, f"Conv{dims}d")
    layers = [
        part for _ in range(4) for part in (kind(channels, channels, 3, padding=1, padding_mode="zeros"), nn.Tanh())
    ]
    return nn.Sequential(*layers, kind(channels, 3, 1))


def cell() -> nn.Module:
    """One layer that takes the step and the state."""

    def call(net: Net, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), WIDTH)
        for step in x.unbind(1):
            h = torch.tanh(net.a(torch.cat([step, h], 1)))
        return net.head(h)

    return Net(call, a=nn.Linear(4 + WIDTH, WIDTH), head=nn.Linear(WIDTH, 2))


def cell_of_two() -> nn.Module:
    """A layer for the step, and one for the state."""

    def call(net: Net, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), WIDTH)
        for step in x.unbind(1):
            h = torch.tanh(net.a(step) + net.b(h))
        return net.head(h)

    return Net(call, a=nn.Linear(4, WIDTH), b=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, 2))


def plan_of(model: nn.Module, inputs: Inputs | Tensor, kind: NormKind) -> tuple[list[str], list[str]]:
    """The norms, each as it is constructed, and the reasons of the layers that get none; both without repetitions."""
    given = inputs if isinstance(inputs, Inputs) else for_model(model, inputs, None, 0)
    plan = InsertNorm(kind).plan(Case(model, given, read(model, given).structure, 1))
    norms = dict.fromkeys(norm.constructed() for norm in insertions_of(plan))
    return list(norms), list(dict.fromkeys(skip.reason for skip in plan.skipped))


FREE = Inputs((drawn(2, WIDTH),), free_batch=True)

PLANS: dict[str, tuple[Callable[[], nn.Module], Inputs | Tensor, dict[NormKind, str]]] = {
    "vectors": (
        mlp,
        drawn(8, WIDTH),
        {
            "batch": "BatchNorm1d(16)",
            "layer": "LayerNorm(16)",
            "group": "GroupNorm(1, 16)",
            "instance": "! its output (8x16) has no positions",
            "rms": "RMSNorm(16)",
            "auto": "BatchNorm1d(16)",
        },
    ),
    "sequences": (
        mlp,
        drawn(8, 5, WIDTH),
        {
            "batch": "! is a sequence: batch norm would take the wrong axis for channels; layer norm fits: --norm",
            "layer": "LayerNorm(16)",
            "group": "! is a sequence: group norm would take the wrong axis for channels; layer norm fits: --norm",
            "instance": "! its output (8x5x16) has no positions",
            "rms": "RMSNorm(16)",
            "auto": "LayerNorm(16)",
        },
    ),
    "vectors without a batch": (
        mlp,
        drawn(WIDTH),
        {
            "batch": "! its output (16) has no batch dimension; layer norm fits: --norm layer",
            "layer": "LayerNorm(16)",
            "group": "! has no batch dimension",
            "rms": "RMSNorm(16)",
            "auto": "LayerNorm(16)",
        },
    ),
    "wide vectors": (lambda: mlp(96), drawn(8, 96), {"group": "GroupNorm(6, 96)"}),
    "two features": (
        lambda: mlp(2),
        drawn(8, 2),
        {"batch": "BatchNorm1d(2)", "layer": "! has too few channels: of 2", "group": "! too few values per sample"},
    ),
    "one feature": (lambda: mlp(1), drawn(8, 1), {"rms": "! has one channel", "auto": "BatchNorm1d(1)"}),
    "a batch of four": (
        mlp,
        drawn(4, WIDTH),
        {"auto": "GroupNorm(1, 16)", "batch": "BatchNorm1d(16)"},
    ),
    "a batch of two that gradtool chose": (mlp, FREE, {"auto": "BatchNorm1d(16)"}),
    "images": (
        convolutions,
        drawn(8, 64, 4, 4),
        {
            "batch": "BatchNorm2d(64)",
            "layer": "GroupNorm(1, 64)",
            "group": "GroupNorm(4, 64)",
            "instance": "InstanceNorm2d(64, affine=True)",
            "rms": "! the last dimension, which in its output (8x64x4x4) is none of channels; layer norm fits",
            "auto": "BatchNorm2d(64)",
        },
    ),
    "two images": (convolutions, drawn(2, 64, 4, 4), {"auto": "GroupNorm(4, 64)"}),
    "signals": (lambda: convolutions(1), drawn(8, 64, 4), {"instance": "InstanceNorm1d(64, affine=True)"}),
    "volumes": (lambda: convolutions(3), drawn(8, 64, 2, 2, 2), {"instance": "InstanceNorm3d(64, affine=True)"}),
    "images of one pixel": (
        convolutions,
        drawn(8, 64, 1, 1),
        {"batch": "BatchNorm2d(64)", "instance": "! has too few positions: of 1", "group": "GroupNorm(4, 64)"},
    ),
    "one image of one pixel": (
        convolutions,
        drawn(1, 64, 1, 1),
        {"batch": "! has one value per channel", "auto": "GroupNorm(4, 64)"},
    ),
    "the steps of a recurrence": (
        cell,
        drawn(8, 6, 4),
        {
            "batch": "! it is stepped: one batch norm over all steps",
            "layer": "LayerNorm(16)",
            "rms": "RMSNorm(16)",
            "auto": "LayerNorm(16)",
        },
    ),
    "the steps of a recurrence with a sum": (
        cell_of_two,
        drawn(8, 6, 4),
        {"layer": "! would have to stand behind the sum of that step's layers", "auto": "! it is stepped"},
    ),
}


@pytest.mark.parametrize(
    ("build", "inputs", "kind", "expected"),
    [
        pytest.param(build, inputs, kind, expected, id=f"{kind} on {name}")
        for name, (build, inputs, kinds) in PLANS.items()
        for kind, expected in kinds.items()
    ],
)
def test_the_norm_that_fits_is_planned_or_a_reason_given(
    build: Callable[[], nn.Module], inputs: Inputs | Tensor, kind: NormKind, expected: str
) -> None:
    norms, reasons = plan_of(build(), inputs, kind)
    if expected.startswith("! "):
        assert norms == []
        assert all(expected.removeprefix("! ") in reason for reason in reasons)
        assert reasons
    else:
        assert (norms, reasons) == ([expected], [])


@pytest.mark.parametrize(
    ("channels", "groups"),
    [
        (1, 1),
        (8, 1),
        (31, 1),
        (32, 2),
        (37, 1),
        (48, 3),
        (50, 2),
        (64, 4),
        (512, 32),
        (768, 32),
        (1000, 25),
        (2048, 32),
    ],
)
def test_groups_divide_the_channels_are_at_most_32_and_have_16_channels(channels: int, groups: int) -> None:
    assert groups_of(channels) == groups


def test_auto_says_why_it_is_no_batch_norm_and_layer_norm_of_images_why_it_is_a_group_norm() -> None:
    for kind, model, x, note in (
        ("auto", mlp(), drawn(8, 5, WIDTH), "LayerNorm: what comes out is a sequence, which batch norm does not fit"),
        ("auto", mlp(), drawn(4, WIDTH), "GroupNorm: the batch has 4 samples, and batch norm's statistics of under 8"),
        ("layer", convolutions(), drawn(8, 64, 4, 4), "GroupNorm(1, C) is layer norm over channels and positions"),
    ):
        result = gct.fix(model, x, norm=kind)
        assert {str(norm.note).startswith(note) for norm in result.plan} == {True}
        assert str(result).count(note) == 1


def test_names_titles_and_costs() -> None:
    names = {kind: InsertNorm(kind).name for kind in KINDS}
    assert names == {
        "auto": "insert-norm",
        "batch": "insert-bn",
        "layer": "insert-ln",
        "group": "insert-gn",
        "instance": "insert-in",
        "rms": "insert-rms",
    }
    assert InsertNorm("layer").title == "layer norm behind every block"
    assert all(sentence.endswith(".") for kind in KINDS for sentence in InsertNorm(kind).breaks)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="norm is 'bach', none of auto, batch, layer"):
        gct.fix(mlp(), drawn(8, WIDTH), norm="bach")  # type: ignore[arg-type]


def test_only_some_blocks_get_a_norm_where_a_function_names_them() -> None:
    model = mlp()
    inputs = for_model(model, drawn(8, WIDTH), None, 0)
    remedy = InsertNorm("layer", placement=lambda case: {case.structure.blocks[1].name, "none of these"})
    case = Case(model, inputs, read(model, inputs).structure)
    plan = remedy.plan(case)
    assert [str(step) for step in plan.steps] == ["LayerNorm(16) after 2"]
    fixed = remedy.apply(capture(model, inputs)[0], plan, case)
    assert [name for name, module in fixed.named_modules() if isinstance(module, nn.LayerNorm)] == ["2_norm"]


# what the fixed model is good for

MODELS: dict[str, tuple[NormKind, Callable[[], nn.Module], tuple[int, ...], str]] = {
    "layer norm": ("layer", mlp, (8, WIDTH), "LayerNorm"),
    "layer norm of sequences": ("layer", mlp, (8, 5, WIDTH), "LayerNorm"),
    "layer norm of images": ("layer", convolutions, (8, 64, 4, 4), "GroupNorm"),
    "layer norm of steps": ("layer", cell, (8, 6, 4), "LayerNorm"),
    "group norm": ("group", convolutions, (8, 64, 4, 4), "GroupNorm"),
    "group norm of vectors": ("group", lambda: mlp(64), (8, 64), "GroupNorm"),
    "instance norm": ("instance", convolutions, (8, 64, 4, 4), "InstanceNorm2d"),
    "RMS norm": ("rms", mlp, (8, 5, WIDTH), "RMSNorm"),
    "what fits": ("auto", mlp, (8, 5, WIDTH), "LayerNorm"),
}
every_model = pytest.mark.parametrize(("kind", "build", "shape", "norm"), MODELS.values(), ids=MODELS)


@every_model
def test_a_fixed_model_keeps_its_promises(
    kind: NormKind, build: Callable[[], nn.Module], shape: tuple[int, ...], norm: str
) -> None:
    model, x, other = build(), drawn(*shape), drawn(5, *shape[1:], seed=2)
    result = gct.fix(model, x, norm=kind)
    fixed = result.model
    assert {entry.norm for entry in result.plan} == {norm}
    state = fixed.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    again = gct.fix(fixed, x, norm=kind)
    assert (again.plan, again.skipped) == ((), ())
    for training in (True, False):
        fixed.train(training)
        assert fixed(other).shape == model(other).shape
        assert torch.equal(copy.deepcopy(fixed)(other), fixed(other))
        assert torch.equal(pickle.loads(pickle.dumps(fixed))(other), fixed(other))
    free = ({0: torch.export.Dim("batch", min=2)},)
    exported = torch.export.export(fixed, (x,), dynamic_shapes=(free,) if isinstance(model, Net) else free)
    torch.testing.assert_close(exported.module()(other), fixed(other))
    optimizer = torch.optim.SGD(fixed.train().parameters(), 0.1)
    fixed(x).square().mean().backward()
    optimizer.step()
    fresh = [module for name, module in fixed.named_modules() if type(module).__name__ == norm]
    assert all(bool((module.weight != 1).any()) for module in fresh), "the norms learn"


@every_model
def test_a_norm_stands_between_a_layer_and_its_activation_in_its_dtype_and_mode(
    kind: NormKind, build: Callable[[], nn.Module], shape: tuple[int, ...], norm: str
) -> None:
    model = build().double().eval()
    fixed = gct.fix(model, drawn(*shape).double(), norm=kind).model
    for graph in fixed.graphs:
        nodes = [node for node in graph.nodes if str(node.target).endswith("_norm")]
        assert nodes
        for node in nodes:
            (before,), (after,) = node.all_input_nodes, node.users
            assert type(fixed.get_submodule(str(before.target))) in (nn.Linear, nn.Conv2d)
            assert "tanh" in str(after.target) or isinstance(fixed.get_submodule(str(after.target)), nn.Tanh)
            module = fixed.get_submodule(str(node.target))
            assert (module.weight.dtype, module.training) == (torch.float64, False)


def test_the_steps_of_a_recurrence_share_one_norm() -> None:
    result = gct.fix(cell(), drawn(8, 6, 4), norm="layer")
    assert [entry.after for entry in result.plan] == ["a", "a@2", "a@3", "a@4", "a@5", "a@6"]
    assert [name for name, module in result.model.named_modules() if isinstance(module, nn.LayerNorm)] == ["a_norm"]


def test_two_calls_that_are_no_recurrence_get_a_norm_each() -> None:
    net = Net(lambda net, x: net.out(torch.tanh(net.f(torch.tanh(net.f(x))))), f=nn.Linear(8, 8), out=nn.Linear(8, 2))
    result = gct.fix(net, drawn(8, 8), norm="layer", min_depth=1)
    assert [name for name, module in result.model.named_modules() if isinstance(module, nn.LayerNorm)] == [
        "f_norm",
        "f_norm_2",
    ]


@pytest.mark.parametrize("kind", ["layer", "group", "rms", "instance"])
def test_only_norms_that_subtract_the_mean_of_a_channel_make_its_bias_void(kind: NormKind) -> None:
    model, x = (convolutions() if kind != "rms" else mlp()), drawn(8, 64, 4, 4) if kind != "rms" else drawn(8, WIDTH)
    inputs = for_model(model, x, None, 0)
    structure = read(model, inputs).structure
    insertions = insertions_of(InsertNorm(kind).plan(Case(model, inputs, structure)))
    assert bool(void_biases(structure, model, insertions)) is (kind == "instance")


def test_biases_in_front_of_instance_norms_go_where_that_is_asked_for() -> None:
    x = drawn(8, 64, 4, 4)
    kept = gct.fix(convolutions(), x, norm="instance").model
    result = gct.fix(convolutions(), x, norm="instance", drop_bias=True)
    assert result.without_bias == ("0", "2", "4", "6")
    torch.testing.assert_close(result.model(x), kept(x), atol=1e-5, rtol=1e-5)
