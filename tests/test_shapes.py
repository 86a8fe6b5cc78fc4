"""What is answered about torch's layers on meta without running them, against what torch really gives on the CPU."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcheck_tool.capturing.shapes import of_function, of_layer

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x,
    "transposed": lambda x: x.transpose(0, 1),
    "moved": lambda x: x.movedim(1, -1),
    "sliced": lambda x: x[..., ::2],
    "expanded": lambda x: x[:1].expand(x.shape),
}
SHAPES = ((4, 8, 6, 6), (4, 6, 8), (6, 8), (4, 8, 2, 6, 6), (1, 8), (1, 8, 1, 1), (1, 8, 6, 6))

LAYERS: dict[str, nn.Module] = {
    **{
        kind.__name__: kind()
        for kind in (
            *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
            *(nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign, nn.Dropout),
        )
    },
    "ReLU in place": nn.ReLU(inplace=True),
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "SiLU in place": nn.SiLU(inplace=True),
    "Dropout of nothing": nn.Dropout(0.0),
    "Linear": nn.Linear(8, 5),
    "Linear over 6": nn.Linear(6, 8),
    "Linear without bias": nn.Linear(8, 5, bias=False),
    "LayerNorm": nn.LayerNorm(8),
    "LayerNorm over two": nn.LayerNorm((6, 6)),
    "LayerNorm without weights": nn.LayerNorm(8, elementwise_affine=False),
    "GroupNorm": nn.GroupNorm(2, 8),
    "BatchNorm2d": nn.BatchNorm2d(8),
    "BatchNorm2d without weights": nn.BatchNorm2d(8, affine=False),
    "BatchNorm2d without statistics": nn.BatchNorm2d(8, track_running_stats=False),
    "BatchNorm3d": nn.BatchNorm3d(8),
}

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        function.__name__: function
        for function in (
            *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.mish, F.softplus, F.hardswish),
            *(F.hardsigmoid, F.hardtanh, F.softsign, torch.relu, Tensor.relu),
        )
    },
}
WITH_ARGUMENTS: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]] = {
    "relu in place": (F.relu, (True,), {}),
    "leaky_relu in place": (F.leaky_relu, (0.1,), {"inplace": True}),
    "x + number": (Tensor.add, (2,), {}),
    "x + x, scaled": (torch.add, (torch.ones(8),), {"alpha": 2}),
    "x * vector": (torch.mul, (torch.ones(8),), {}),
    "x * vector that is learnt": (Tensor.mul, (nn.Parameter(torch.ones(8)),), {}),
    "x - matrix": (Tensor.sub, (torch.ones(6, 8),), {}),
    "x + larger": (Tensor.add, (torch.ones(4, 8, 1, 1),), {}),
    "x + double": (Tensor.add, (torch.ones(8, dtype=torch.float64),), {}),
    "x + one": (Tensor.add, (torch.tensor(2.0),), {}),
    "layer_norm": (F.layer_norm, ((8,),), {}),
    "layer_norm, learnt": (F.layer_norm, ((8,), nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))), {}),
    "layer_norm, wrong": (F.layer_norm, ((7,),), {}),
    "batch_norm, trained": (F.batch_norm, (torch.zeros(8), torch.ones(8)), {"training": True}),
    "batch_norm": (F.batch_norm, (torch.zeros(8), torch.ones(8), torch.ones(8), torch.ones(8)), {}),
    "batch_norm, wrong": (F.batch_norm, (torch.zeros(7), torch.ones(7)), {}),
}


def outcome(run: Callable[[], Tensor | None], given: Tensor) -> Any:
    """What can be told of a tensor without its values, or that it was refused; None without an answer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"refused: {type(error).__name__}"
    return (
        result
        if result is None
        else {
            "shape": result.shape,
            "strides": [step for step, size in zip(result.stride(), result.shape, strict=True) if size > 1],
            "dtype": result.dtype,
            "requires_grad": result.requires_grad,
            "is_leaf": result.is_leaf,
            "is the input": result is given,
        }
    )


def inputs() -> list[tuple[str, Tensor]]:
    made = []
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.int64)
    for shape, (layout, lay_out), dtype, learnt in itertools.product(SHAPES, LAYOUTS.items(), dtypes, (True, False)):
        x = lay_out(torch.ones(shape, dtype=dtype))
        if dtype.is_floating_point and learnt:
            x = x.detach().requires_grad_().view_as(x)  # no leaf, as within a model
        made.append((f"{shape} {layout} {dtype} {'learnt' if learnt else 'given'}", x))
    return made


def on_meta(x: Tensor) -> Tensor:
    empty = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    return empty.requires_grad_().view_as(empty) if x.requires_grad else empty


def moved(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("frozen", [False, True], ids=["learnt", "frozen"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_it_gives_on_the_cpu(name: str, frozen: bool, training: bool) -> None:
    layer = copy.deepcopy(LAYERS[name]).train(training).requires_grad_(not frozen)
    lent = copy.deepcopy(layer).to("meta")
    for label, x in inputs():
        x_meta = on_meta(x)
        ours = outcome(lambda x=x_meta: of_layer(lent, (x,), {}), x_meta)
        if ours is not None:
            assert ours == outcome(lambda x=x: layer(x), x), label


@pytest.mark.parametrize("name", [*FUNCTIONS, *WITH_ARGUMENTS])
def test_a_function_gives_what_it_gives_on_the_cpu(name: str) -> None:
    function, args, kwargs = WITH_ARGUMENTS.get(name) or (FUNCTIONS[name], (), {})
    for label, x in inputs():
        x_meta = on_meta(x)
        ours = outcome(lambda x=x_meta: of_function(function, (x, *map(moved, args)), kwargs), x_meta)
        if ours is not None:
            assert ours == outcome(lambda x=x: function(x, *args, **kwargs), x), label


QUERIES = {
    "one head": ((2, 5, 8), (2, 5, 8), (2, 5, 8), {}),
    "heads": ((2, 4, 5, 8), (2, 4, 5, 8), (2, 4, 5, 8), {}),
    "cross": ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8), {"dropout_p": 0.1}),
    "causal": ((2, 4, 5, 8), (2, 4, 5, 8), (2, 4, 5, 8), {"is_causal": True}),
    "other values": ((2, 4, 5, 8), (2, 4, 5, 8), (2, 4, 5, 3), {}),
    "shared heads": ((2, 4, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8), {"enable_gqa": True}),
    "broadcast": ((2, 4, 5, 8), (1, 4, 5, 8), (1, 4, 5, 8), {}),
    "mask": ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8), {"attn_mask": torch.ones(2, 1, 5, 7, dtype=torch.bool)}),
    "bias": ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8), {"attn_mask": torch.zeros(5, 7)}),
    "wrong mask": ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8), {"attn_mask": torch.zeros(5, 6)}),
    "wrong widths": ((2, 4, 5, 8), (2, 4, 7, 6), (2, 4, 7, 6), {}),
}


@pytest.mark.parametrize("name", QUERIES)
def test_attention_gives_what_it_gives_on_the_cpu(name: str) -> None:
    *shapes, options = QUERIES[name]
    given = [torch.ones(shape, requires_grad=True) for shape in shapes]
    lent = [on_meta(x) for x in given]
    known = of_function(F.scaled_dot_product_attention, tuple(lent), {k: moved(v) for k, v in options.items()})
    if known is not None:
        real = F.scaled_dot_product_attention(*given, **options)
        assert (known.shape, known.dtype, known.requires_grad, known.is_leaf) == (
            *(real.shape, real.dtype, real.requires_grad, real.is_leaf),
        )


@pytest.mark.parametrize("name", ["Linear", "LayerNorm", "BatchNorm2d", "GroupNorm", "ReLU", "Dropout"])
def test_the_usual_case_is_answered(name: str) -> None:
    x = torch.empty(4, 8, 6, 8, device="meta", requires_grad=True)
    assert of_layer(copy.deepcopy(LAYERS[name]).to("meta"), (x,), {}) is not None


def test_a_layer_with_a_hook_or_a_forward_of_its_own_runs() -> None:
    x = torch.empty(4, 8, device="meta", requires_grad=True)
    hooked, patched, changed = (nn.Linear(8, 8, device="meta") for _ in range(3))
    hooked.register_forward_hook(lambda module, args, output: output[:2])
    patched.forward = lambda x: x[:3]  # type: ignore[method-assign]
    changed.register_forward_pre_hook(lambda module, args: (args[0][:1],))
    assert [of_layer(layer, (x,), {}) for layer in (hooked, patched, changed)] == [None, None, None]

    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input)[:1]

    assert of_layer(Own(8, 8, device="meta"), (x,), {}) is None
