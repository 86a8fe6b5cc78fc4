"""The table of operations against torch itself: what is elementwise and nonlinear is found out by computing it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gradcheck_tool.operands import factors, operands
from gradcheck_tool.ops import Kind, lookup, operation_name

SAMPLES = (
    torch.tensor([-7.3, -0.6, -0.2, 0.35, 0.8, 7.1], dtype=torch.float64),
    torch.tensor([0.86, 0.31, 0.11, 0.18, 0.41, 0.96], dtype=torch.float64),
    torch.tensor([2.8, 1.7, 1.3, 1.45, 1.9, 3.0], dtype=torch.float64),
)
"""Where functions are tried: both signs, the unit interval, above one."""
NO_FUNCTIONS_OF_A_TENSOR = {"from_dlpack", "norm_except_dim", "sym_sum", "tensor"}
SETTINGS = ("set_", "use_", "is_", "get_", "init", "import_", "manual_", "compile", "load", "save", "typename", "seed")


def kind_by_computing(function: Callable[..., Any]) -> str | None:
    """ "nonlinear", "linear" or "mixing", by values alone; None where it takes no vector to another."""
    found = None
    for sample in SAMPLES:
        try:
            value = _apply(function, sample)
            changed = [_apply(function, sample + torch.eye(6, dtype=torch.float64)[i] * 0.03) for i in range(6)]
            zero, half, negated = (_apply(function, sample * factor) for factor in (0.0, 0.5, -1.0))
        except Exception:  # noqa: BLE001  not for vectors, or not defined here
            continue
        for index, other in enumerate(changed):
            rest = torch.arange(6) != index
            if not _equal(other[rest], value[rest]):
                return "mixing"
        affine = _equal(half, (value + zero) / 2) and _equal(negated, 2 * zero - value)
        found = "nonlinear" if found == "nonlinear" or not affine else "linear"
    return found


def _apply(function: Callable[..., Any], x: Tensor) -> Tensor:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function(x.clone())
    if (
        not isinstance(result, Tensor)
        or result.layout is not torch.strided
        or result.shape != x.shape
        or result.dtype != x.dtype
    ):
        raise TypeError
    return result


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


def of_one_vector() -> Iterator[Any]:
    """Every public function of torch, torch.nn.functional and torch.special, and every method of a tensor, by kind."""
    places = {"torch": torch, "F": F, "torch.special": torch.special, "Tensor": Tensor}
    for place, owner in places.items():
        for name in dir(owner):
            function = getattr(owner, name)
            hidden = name.startswith(SETTINGS) or (
                name.startswith("_") and not (place == "Tensor" and name.startswith("__"))
            )
            if hidden or not callable(function) or inspect.isclass(function) or inspect.ismodule(function):
                continue
            kind = kind_by_computing(function)
            if kind is not None and name not in NO_FUNCTIONS_OF_A_TENSOR:
                yield pytest.param(place, name, function, kind, id=f"{place}.{name} is {kind}")


with torch.random.fork_rng():
    EVERYTHING = list(of_one_vector())


def looked_up(place: str, name: str, function: Any) -> Kind:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_method(name, (x,)) if place == "Tensor" else graph.call_function(function, (x,))
    return lookup(node, {}).kind


def test_torch_has_as_many_functions_of_one_vector_as_are_expected() -> None:
    """That the search finds what it should: a change in it, or in torch, may not empty the tests below."""
    kinds = [case.values[3] for case in EVERYTHING]
    assert kinds.count("nonlinear") > 250
    assert kinds.count("linear") > 60


@pytest.mark.parametrize("case", [pytest.param(c.values, id=c.id) for c in EVERYTHING if c.values[3] == "nonlinear"])
def test_what_is_elementwise_and_nonlinear_is_an_activation(case: tuple[str, str, Any, str]) -> None:
    allowed = {Kind.DISCRETE} if case[1] == "logical_not_" else {Kind.ACTIVATION}
    assert looked_up(*case[:3]) in allowed


@pytest.mark.parametrize("case", [pytest.param(c.values, id=c.id) for c in EVERYTHING if c.values[3] == "linear"])
def test_what_is_elementwise_and_linear_passes(case: tuple[str, str, Any, str]) -> None:
    passing = {Kind.PASSING, Kind.MIXING, Kind.SUM, Kind.PRODUCT, Kind.CUT, Kind.DISCRETE}
    assert looked_up(*case[:3]) in passing


@pytest.mark.parametrize("case", [pytest.param(c.values, id=c.id) for c in EVERYTHING if c.values[3] == "mixing"])
def test_what_mixes_elements_is_no_activation(case: tuple[str, str, Any, str]) -> None:
    assert looked_up(*case[:3]) is not Kind.ACTIVATION


def test_glu_halves_and_is_an_activation() -> None:
    assert looked_up("F", "glu", F.glu) is Kind.ACTIVATION


MODULES = {
    Kind.ACTIVATION: (
        "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU RReLU "
        "ReLU ReLU6 SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink"
    ),
    Kind.NORMALIZATION: (
        "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d "
        "LayerNorm GroupNorm RMSNorm LocalResponseNorm CrossMapLRN2d LazyBatchNorm1d LazyInstanceNorm2d"
    ),
    Kind.WEIGHT: (
        "Linear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Bilinear LazyLinear "
        "LazyConv2d LazyConvTranspose3d"
    ),
    Kind.PASSING: (
        "Identity Flatten Unflatten Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout "
        "ConstantPad1d ReflectionPad2d ReplicationPad3d ZeroPad2d CircularPad2d PixelShuffle PixelUnshuffle "
        "ChannelShuffle"
    ),
    Kind.MIXING: (
        "AvgPool1d AvgPool2d MaxPool2d MaxPool3d AdaptiveAvgPool2d AdaptiveMaxPool1d LPPool2d "
        "FractionalMaxPool2d MaxUnpool2d Upsample UpsamplingNearest2d UpsamplingBilinear2d Fold Unfold"
    ),
    Kind.SOFTMAX: "Softmax Softmax2d LogSoftmax Softmin",
    Kind.EMBEDDING: "Embedding EmbeddingBag",
    Kind.RECURRENT: "RNN LSTM GRU RNNCell LSTMCell GRUCell",
    Kind.LOSS: "MSELoss L1Loss CrossEntropyLoss NLLLoss BCELoss BCEWithLogitsLoss KLDivLoss CTCLoss TripletMarginLoss",
    Kind.OTHER: "CosineSimilarity PairwiseDistance",
}
CASES = [(name, kind) for kind, names in MODULES.items() for name in names.split()]


def module_of(name: str) -> nn.Module:
    """A module of torch.nn that was never initialized: the table looks at its class alone."""
    cls = getattr(nn, name)
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    return module


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param(*case, id=f"nn.{case[0]} is {case[1].name}") for case in CASES]
)
def test_a_module_of_torch_has_its_kind(name: str, kind: Kind) -> None:
    node = fx.Graph().call_module("m")
    assert lookup(node, {"m": module_of(name)}).kind is kind


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, id=f"torch.nn.modules.{file}")
        for file in (
            "activation",
            "batchnorm",
            "instancenorm",
            "normalization",
            "conv",
            "dropout",
            "padding",
            "pooling",
            "upsampling",
            "loss",
        )
    ],
)
def test_no_public_module_of_these_files_is_unknown(file: str) -> None:
    module = getattr(nn.modules, file)
    unknown = [
        name
        for name in module.__all__
        if hasattr(nn, name) and lookup(fx.Graph().call_module("m"), {"m": module_of(name)}).kind is Kind.OTHER
    ]
    assert unknown == []


def test_a_subclass_has_the_kind_of_its_base() -> None:
    class Swish(nn.SiLU):
        pass

    assert lookup(fx.Graph().call_module("m"), {"m": Swish()}).kind is Kind.ACTIVATION


def test_a_parametrized_layer_is_called_by_its_own_class() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    operation = lookup(fx.Graph().call_module("m"), {"m": layer})
    assert (operation.kind, operation.name) == (Kind.WEIGHT, "Linear")


def node_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[fx.Node, fx.Node, fx.Node]:
    """(call, x, y) of `function` called with "x" and "y" replaced by nodes."""
    graph = fx.Graph()
    nodes = {name: graph.placeholder(name) for name in "xyz"}
    for node in nodes.values():
        node.meta["shape"] = (2, 2)
    given = tuple(nodes.get(arg, arg) if isinstance(arg, str) else arg for arg in args)
    named = {key: nodes.get(arg, arg) if isinstance(arg, str) else arg for key, arg in kwargs.items()}
    return graph.call_function(function, given, named), nodes["x"], nodes["y"]


@pytest.mark.parametrize(
    ("function", "args", "kind"),
    [
        pytest.param(torch.max, ("x", "y"), Kind.SUM, id="the maximum of two tensors joins"),
        pytest.param(torch.max, ("x", 1), Kind.MIXING, id="the maximum over a dimension pools"),
        pytest.param(torch.pow, ("x", 1), Kind.PASSING, id="the first power passes"),
        pytest.param(torch.pow, ("x", 2), Kind.ACTIVATION, id="the second power is nonlinear"),
        pytest.param(torch.pow, ("x", "y"), Kind.PRODUCT, id="the power of two tensors joins"),
        pytest.param(torch.div, (1.0, "x"), Kind.ACTIVATION, id="a number over a tensor is nonlinear"),
        pytest.param(torch.div, ("x", 2.0), Kind.PRODUCT, id="a tensor over a number is not"),
        pytest.param(torch.fft.fft, ("x",), Kind.OTHER, id="a Fourier transform is not known"),
        pytest.param(
            torch.ops.aten.relu.default, ("x",), Kind.ACTIVATION, id="an overload of torch.ops is known by its name"
        ),
        pytest.param(torch.relu_, ("x",), Kind.ACTIVATION, id="a function in place is known by the other's name"),
    ],
)
def test_the_kind_can_hang_on_the_arguments(function: Callable[..., Any], args: tuple[Any, ...], kind: Kind) -> None:
    assert lookup(node_of(function, *args)[0], {}).kind is kind


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "data", "weights"),
    [
        pytest.param(F.linear, ("x", "y"), {}, "x", "y", id="linear"),
        pytest.param(F.linear, ("x",), {"weight": "y"}, "x", "y", id="linear, weight by keyword"),
        pytest.param(F.conv2d, (), {"input": "x", "weight": "y"}, "x", "y", id="conv2d by keywords"),
        pytest.param(torch.addmm, ("z", "x", "y"), {}, "xy", "xy", id="addmm leaves the summand out"),
        pytest.param(torch.addmm, ("z",), {"mat1": "x", "mat2": "y"}, "xy", "xy", id="addmm by keywords"),
        pytest.param(F.bilinear, ("x", "y", "z"), {}, "xy", "z", id="bilinear"),
        pytest.param(torch.matmul, ("x", "y"), {}, "xy", "xy", id="in a plain product either may be the weight"),
        pytest.param(torch.mm, ("x",), {"mat2": "y"}, "xy", "xy", id="mm, second by keyword"),
        pytest.param(torch.einsum, ("ij,jk->ik", "x", "y"), {}, "xy", "xy", id="einsum"),
    ],
)
def test_factors_tells_data_and_weights_apart(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], data: str, weights: str
) -> None:
    found = factors(node_of(function, *args, **kwargs)[0])
    assert tuple("".join(node.name for node in part) for part in found) == (data, weights)


def test_a_tensor_that_lends_its_shape_is_no_operand() -> None:
    node, x, _ = node_of(torch.Tensor.expand_as, "x", "y")
    assert operands(node) == [x]


def test_what_is_written_to_is_no_operand() -> None:
    node, x, _ = node_of(torch.relu, "x", out="y")
    assert operands(node) == [x]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        pytest.param(torch.relu_, "relu", id="in place"),
        pytest.param(torch.special.expit, "expit", id="of torch.special"),
        pytest.param(torch.ops.aten.add.Tensor, "add", id="an overload of torch.ops"),
        pytest.param(Tensor.__rpow__, "__rpow__", id="of an operator"),
    ],
)
def test_the_name_of_a_function(function: Callable[..., Any], name: str) -> None:
    assert operation_name(node_of(function, "x")[0]) == name
