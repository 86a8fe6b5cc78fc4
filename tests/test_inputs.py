"""What a model is run with: from examples and specifications, carried by the model, or inferred from its layers."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import (
    Inputs,
    batch_size,
    carried,
    describe,
    for_model,
    from_example,
    from_size,
    from_specs,
    resized,
)
from gradcheck_tool.inputs.infer import infer
from gradcheck_tool.target import load_subject

Pair = namedtuple("Pair", ["left", "right"])


@dataclass(frozen=True)
class Sample:
    image: Tensor
    label: str


class Any2(nn.Module):
    """Takes anything."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Any, y: Any = None) -> Any:
        return self.fc(x)


class Shaped(nn.Module):
    """Runs `forward(self, …)` of a test over the given layers."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


class LeNet(Shaped):
    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.c1(x).relu(), 2)
        return self.fc(F.max_pool2d(self.c2(x).relu(), 2).flatten(1))


class Rectangular(Shaped):
    def forward(self, x: Tensor) -> Tensor:
        b, _c, _h, _w = x.shape
        return self.fc(x.reshape(b, -1))


class Viewed(Shaped):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(-1, 784))


class Steered(Shaped):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(-x if x.sum().item() > 0 else x)


class Gpt(Shaped):
    def forward(self, ids: Tensor) -> Tensor:
        h = self.tok(ids) + self.pos(torch.arange(ids.shape[1], device=ids.device))
        return self.head(h + self.attn(h, h, h, need_weights=False)[0])


class Masked(Shaped):
    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        h = self.tok(ids) * attention_mask.unsqueeze(-1)
        return self.head(h.sum(1) / attention_mask.sum(1, keepdim=True))


class Towers(Shaped):
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.out(torch.cat([self.a(user).relu(), self.b(item).relu()], -1))


class Recurrent(Shaped):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


class Diffusion(Shaped):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.c1(x) + self.time(t)[:, :, None, None]


class Factors(Shaped):
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.out(torch.cat([self.u(user), self.i(item)], -1))


def lenet(features: int, padding: int = 0) -> nn.Module:
    return LeNet(c1=nn.Conv2d(1, 6, 5, padding=padding), c2=nn.Conv2d(6, 16, 5), fc=nn.Linear(features, 10))


def gpt(block: int) -> nn.Module:
    return Gpt(
        tok=nn.Embedding(65, 8),
        pos=nn.Embedding(block, 8),
        attn=nn.MultiheadAttention(8, 2, batch_first=True),
        head=nn.Linear(8, 65),
    )


def conv(rank: int, channels: int, *after: nn.Module) -> nn.Module:
    return nn.Sequential([nn.Conv1d, nn.Conv2d, nn.Conv3d][rank - 1](channels, 4, 3, padding=1), nn.ReLU(), *after)


def pooled(rank: int, channels: int) -> nn.Module:
    return conv(
        rank, channels, [nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d][rank - 1](1), nn.Flatten()
    )


INFERRED = [
    pytest.param(lambda: nn.Sequential(nn.Linear(784, 8), nn.ReLU()), ["input=32x784"], id="an mlp"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(6, 8)).double(), ["input=32x6:float64"], id="a model in double precision"
    ),
    pytest.param(lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 8)), ["input=32x784"], id="flatten first"),
    pytest.param(lambda: Viewed(fc=nn.Linear(784, 2)), ["x=32x784"], id="view(-1, 784) first"),
    pytest.param(
        lambda: Rectangular(fc=nn.Linear(784, 2)), ["x=32x1x28x28"], id="four dimensions unpacked, 784 features"
    ),
    pytest.param(
        lambda: Rectangular(fc=nn.Linear(3072, 2)), ["x=32x3x32x32"], id="four dimensions unpacked, 3072 features"
    ),
    pytest.param(lambda: lenet(256), ["x=32x1x28x28"], id="LeNet made for 28 pixels"),
    pytest.param(lambda: lenet(400), ["x=32x1x32x32"], id="LeNet made for 32 pixels"),
    pytest.param(lambda: lenet(400, padding=2), ["x=32x1x28x28"], id="LeNet padded for 28 pixels"),
    pytest.param(lambda: conv(2, 1, nn.Flatten(), nn.Linear(256, 10)), ["input=32x1x8x8"], id="images of 8 pixels"),
    pytest.param(
        lambda: conv(2, 3, nn.Flatten(), nn.Linear(4 * 77 * 77, 10)), ["input=32x3x77x77"], id="images of an odd size"
    ),
    pytest.param(lambda: pooled(2, 3), ["input=32x3x32x32"], id="colour images of any size"),
    pytest.param(lambda: pooled(2, 1), ["input=32x1x28x28"], id="grey images of any size"),
    pytest.param(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        ["input=32x3x224x224"],
        id="photographs, by a stem of 7 pixels and stride 2",
    ),
    pytest.param(lambda: pooled(1, 5), ["input=32x5x128"], id="signals of any length"),
    pytest.param(
        lambda: conv(1, 1, nn.Flatten(), nn.Linear(4 * 3601, 2)), ["input=32x1x3601"], id="signals of an odd length"
    ),
    pytest.param(lambda: pooled(3, 1), ["input=32x1x16x16x16"], id="volumes"),
    pytest.param(lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), ["input=32x3x32x32"], id="a norm first"),
    pytest.param(lambda: nn.Sequential(nn.ConvTranspose2d(100, 8, 4)), ["input=32x100x1x1"], id="a generator"),
    pytest.param(
        lambda: Recurrent(rnn=nn.LSTM(7, 6, batch_first=True), out=nn.Linear(6, 2)), ["x=32x16x7"], id="an LSTM"
    ),
    pytest.param(lambda: Recurrent(rnn=nn.GRU(7, 6, batch_first=True), out=nn.Linear(6, 2)), ["x=32x16x7"], id="a GRU"),
    pytest.param(lambda: gpt(64), ["ids=32x16:int64"], id="a language model"),
    pytest.param(lambda: gpt(8), ["ids=32x8:int64"], id="a language model of at most 8 positions"),
    pytest.param(
        lambda: Masked(tok=nn.Embedding(50, 8), head=nn.Linear(8, 2)),
        ["ids=32x16:int64", "attention_mask=32x16:bool"],
        id="ids and a mask",
    ),
    pytest.param(
        lambda: Towers(a=nn.Linear(10, 4), b=nn.Linear(20, 4), out=nn.Linear(8, 1)),
        ["user=32x10", "item=32x20"],
        id="two towers",
    ),
    pytest.param(
        lambda: Diffusion(c1=nn.Conv2d(3, 8, 3, padding=1), time=nn.Embedding(1000, 8)),
        ["x=32x3x32x32", "t=32:int64"],
        id="a time step",
    ),
    pytest.param(
        lambda: Factors(u=nn.Embedding(50, 4), i=nn.Embedding(30, 4), out=nn.Linear(8, 1)),
        ["user=32:int64", "item=32:int64"],
        id="a matrix factorization",
    ),
    pytest.param(lambda: Steered(fc=nn.Linear(12, 2)), ["x=32x12"], id="a value that steers, which meta cannot read"),
    pytest.param(
        lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)),
        ["input=32x3x32x32"],
        id="lazy layers",
    ),
]


def shown(model: nn.Module, inputs: Inputs) -> list[str]:
    """`x=32x784`, with the dtype where it is not float32."""
    return [
        f"{spec.name}={'x'.join(map(str, spec.shape))}" + (f":{spec.dtype}" if spec.dtype != "float32" else "")
        for spec in describe(model, inputs)
    ]


@pytest.mark.parametrize(("make", "expected"), INFERRED)
def test_inferred(make: Any, expected: list[str]) -> None:
    model = make()
    inputs = infer(model)
    assert shown(model, inputs) == expected
    assert (inputs.origin, inputs.free_batch, batch_size(inputs)) == ("inferred", True, 32)
    model(*resized(inputs, 3).args)


def test_inference_says_what_it_was_read_off() -> None:
    assert infer(nn.Sequential(nn.Linear(784, 8))).note == "read off Linear(784, 8) at 0"


@pytest.mark.parametrize(
    "make",
    [lambda: lenet(400), lambda: Steered(fc=nn.Linear(12, 2)), lambda: gpt(8)],
    ids=["on meta", "for real", "tokens"],
)
def test_inference_leaves_no_trace(make: Any) -> None:
    model = make()
    model.add_module("norm", nn.BatchNorm1d(3))
    model.eval()
    values = {key: value.clone() for key, value in model.state_dict().items()}
    before = torch.get_rng_state()
    infer(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None and not parameter._backward_hooks for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_inference_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(Shaped):
        def forward(self, x: Tensor) -> Tensor:
            print("here")
            return self.fc(x)

    infer(Loud(fc=nn.Linear(3, 2)))
    assert capsys.readouterr() == ("", "")


def test_where_nothing_fits_the_error_lists_what_was_tried_and_what_to_type() -> None:
    class Odd(Shaped):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.fc(batch["x"])

    with pytest.raises(GradtoolError) as caught:
        infer(Odd(fc=nn.Linear(3, 2)))
    assert "could not find an input that Odd takes; tried 32x3, 32x16x3," in str(caught.value)
    assert str(caught.value).endswith("give one with --input 32x3")
    assert caught.value.file is not None
    assert caught.value.file.endswith("test_inputs.py")


@pytest.mark.parametrize(
    ("value", "args", "kwargs"),
    [
        pytest.param(torch.ones(2, 3), 1, [], id="a tensor is the one argument"),
        pytest.param((torch.ones(2), torch.ones(3)), 2, [], id="a tuple is the arguments"),
        pytest.param({"x": torch.ones(2)}, 0, ["x"], id="a dict is the keyword arguments"),
        pytest.param([torch.ones(2)], 1, [], id="a list is one argument"),
        pytest.param(Pair(torch.ones(2), torch.ones(2)), 1, [], id="a named tuple is one argument"),
        pytest.param(Sample(torch.ones(2), "a"), 1, [], id="a dataclass is one argument"),
        pytest.param((torch.ones(2), 3, None), 3, [], id="other arguments may stand beside the tensors"),
    ],
)
def test_an_example(value: Any, args: int, kwargs: list[str]) -> None:
    inputs = from_example(value)
    assert (len(inputs.args), list(inputs.kwargs)) == (args, kwargs)
    assert from_example(inputs) is inputs


@pytest.mark.parametrize("value", [3, "x", None, (), {}, [1, 2], (None, 1.5)], ids=repr)
def test_an_example_without_a_tensor_is_refused(value: Any) -> None:
    with pytest.raises(GradtoolError, match="without a tensor"):
        from_example(value)


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        pytest.param(["32x4"], ["x=32x4"], id="a size"),
        pytest.param(["32X4"], ["x=32x4"], id="a capital X"),
        pytest.param(["8x4:float64"], ["x=8x4:float64"], id="a size and a dtype"),
        pytest.param(["8x4:torch.bool"], ["x=8x4:bool"], id="a dtype with its package"),
        pytest.param(["y=8:long"], ["y=8:int64"], id="a name, one dimension and another name of int64"),
        pytest.param(["8x4", "8x5"], ["x=8x4", "y=8x5"], id="two by position"),
        pytest.param(["y=8x5", "8x4"], ["x=8x4", "y=8x5"], id="by name and by position"),
        pytest.param(["8x4:bfloat16"], ["x=8x4:bfloat16"], id="half the bits"),
    ],
)
def test_a_specification(specs: list[str], expected: list[str]) -> None:
    class Two(Any2):
        def forward(self, x: Any = None, y: Any = None) -> Any:
            return x

    inputs = from_specs(Two(), specs)
    assert shown(Two(), inputs) == expected
    assert (inputs.origin, inputs.free_batch) == ("option", False)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        pytest.param(["32,784"], "as in --input 32x784", id="commas"),
        pytest.param(["32x"], "as in --input 32x784", id="a dimension missing"),
        pytest.param(["-1x4"], "as in --input 32x784", id="a negative dimension"),
        pytest.param(["0x4"], "at least 1", id="a dimension of zero"),
        pytest.param(["32x4:flot32"], "did you mean float32", id="an unknown dtype"),
        pytest.param(["z=32x4"], "forward of Any2 has no argument z; it takes x, y", id="an unknown name"),
        pytest.param(["8x4", "8x4", "8x4"], "too many positional arguments", id="too many"),
        pytest.param(["y=8x4"], "missing a required argument: 'x'", id="too few"),
        pytest.param(["x=8x4", "x=8x4"], "given twice", id="a name twice"),
    ],
)
def test_a_wrong_specification_is_explained(specs: list[str], said: str) -> None:
    with pytest.raises(GradtoolError) as caught:
        from_specs(Any2(), specs)
    assert said in str(caught.value)


def test_a_size_without_a_dtype_is_of_token_ids_for_a_token_model() -> None:
    model = gpt(8)
    assert shown(model, from_size(model, (4, 5))) == ["ids=4x5:int64"]
    assert shown(model, from_specs(model, ["4x5"])) == ["ids=4x5:int64"]


@pytest.mark.parametrize("size", [(), (0, 3), (2, -1), "32x4", (2.0, 3), [()]], ids=repr)
def test_a_wrong_size_is_refused(size: Any) -> None:
    with pytest.raises(GradtoolError, match="give positive integers"):
        from_size(Any2(), size)


def test_several_sizes_are_several_arguments() -> None:
    assert shown(Any2(), from_size(Any2(), [(8, 4), (8, 2)])) == ["x=8x4", "y=8x2"]


def test_values_have_their_range_and_leave_the_global_random_state() -> None:
    model, other = gpt(6), Any2()
    before = torch.get_rng_state()
    ids = from_specs(model, ["64x16:int64"]).args[0]
    floats = from_specs(other, ["64x400"]).args[0]
    assert (int(ids.min()), int(ids.max())) == (0, 5)  # below the smallest number of embeddings
    assert abs(float(floats.mean())) < 0.03
    assert abs(float(floats.std()) - 1) < 0.03
    assert from_specs(other, ["4x4:bool"]).args[0].all()
    assert torch.equal(torch.get_rng_state(), before)


def test_one_seed_one_input() -> None:
    first, same, other = (from_specs(Any2(), ["4x4"], seed=seed).args[0] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


class Lightning(Any2):
    example_input_array = torch.ones(5, 4)


class TextTransformer(Any2):
    dummy_inputs = MappingProxyType({"x": torch.ones(3, 4), "y": torch.ones(3)})


class ImageTransformer(Any2):
    dummy_inputs = MappingProxyType({"input_ids": torch.ones(3, 4)})


class Timm(Any2):
    default_cfg = MappingProxyType({"input_size": (3, 7, 7)})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(Lightning(), ["x=5x4"], id="example_input_array of Lightning"),
        pytest.param(TextTransformer(), ["x=3x4", "y=3"], id="dummy_inputs of transformers"),
        pytest.param(ImageTransformer(), None, id="dummy_inputs that forward does not take"),
        pytest.param(Timm(), ["x=32x3x7x7"], id="default_cfg of timm"),
        pytest.param(Any2(), None, id="nothing"),
    ],
)
def test_what_a_model_carries(model: nn.Module, expected: list[str] | None) -> None:
    inputs = carried(model)
    assert (inputs and shown(model, inputs)) == expected
    assert inputs is None or inputs.origin == "model"


def test_the_order_is_example_size_carried_inferred() -> None:
    model = Lightning()
    assert shown(model, for_model(model, torch.ones(2, 4))) == ["x=2x4"]
    assert shown(model, for_model(model, input_size=(3, 4))) == ["x=3x4"]
    assert shown(model, for_model(model)) == ["x=5x4"]
    assert shown(Any2(), for_model(Any2())) == ["x=32x4"]
    with pytest.raises(GradtoolError, match="both"):
        for_model(model, torch.ones(2, 4), (3, 4))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        pytest.param({"ids": torch.ones(2), "mask": torch.ones(2)}, ["x['ids']", "x['mask']"], id="a dict"),
        pytest.param([torch.ones(2), (torch.ones(2),)], ["x[0]", "x[1][0]"], id="a list"),
        pytest.param(Sample(torch.ones(2), "a"), ["x.image"], id="a dataclass"),
    ],
)
def test_nested_tensors_have_the_expression_that_leads_to_them_for_a_name(value: Any, names: list[str]) -> None:
    assert [spec.name for spec in describe(Any2(), from_example((value,)))] == names


@pytest.mark.parametrize(
    ("value", "size"),
    [
        pytest.param((torch.ones(8, 3), torch.ones(8)), 8, id="shared"),
        pytest.param((torch.ones(8, 3), torch.tensor(1.0)), 8, id="beside a scalar"),
        pytest.param((torch.ones(8, 3), torch.ones(4, 4)), None, id="not shared"),
        pytest.param(((1, Sample(torch.ones(6), "a")),), 6, id="nested"),
        pytest.param(torch.tensor(1.0), None, id="a scalar alone"),
    ],
)
def test_the_batch_size(value: Any, size: int | None) -> None:
    assert batch_size(from_example(value)) == size


def test_resizing_keeps_structure_moments_range_and_kind() -> None:
    floats, ints = torch.randn(64, 50) * 3 + 5, torch.randint(4, 9, (64, 7))
    sample = Sample(floats.double().requires_grad_(), "a")
    inputs = from_example(
        ({"x": floats, "ids": [ints]}, sample, torch.ones(64, dtype=torch.bool), 3, torch.tensor(2.0))
    )
    first, second, mask, number, scalar = resized(inputs, 200).args
    assert (first["x"].shape, first["ids"][0].shape, second.image.shape, mask.shape) == (
        (200, 50),
        (200, 7),
        (200, 50),
        (200,),
    )
    assert (round(float(first["x"].mean())), round(float(first["x"].std()))) == (5, 3)
    assert (int(first["ids"][0].min()), int(first["ids"][0].max())) == (4, 8)
    assert (second.image.dtype, second.image.requires_grad, second.label) == (torch.float64, True, "a")
    assert (bool(mask.all()), number, float(scalar)) == (True, 3, 2.0)
    assert inputs.args[0]["x"] is floats


def test_resizing_without_a_batch_changes_nothing() -> None:
    inputs = from_example((torch.ones(8, 3), torch.ones(4, 4)))
    assert resized(inputs, 5) is inputs


FILE = "import torch\nfrom torch import nn\nmodel = nn.Linear(3, 2)\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("example_inputs = torch.ones(5, 3)", ["input=5x3"], id="a value"),
        pytest.param("def example_inputs(): return torch.ones(6, 3)", ["input=6x3"], id="a function"),
        pytest.param("example_inputs = {'input': torch.ones(5, 3)}", ["input=5x3"], id="a dict"),
        pytest.param("def example_batch(): return torch.ones(7, 3), torch.ones(7)", ["input=7x3"], id="a batch"),
        pytest.param(
            "example_inputs = torch.ones(5, 3)\nexample_batch = (torch.ones(7, 3), 0)",
            ["input=5x3"],
            id="both, and no loss",
        ),
        pytest.param(
            "example_inputs = torch.ones(5, 3)\nexample_batch = (torch.ones(7, 3), 0)\nloss_fn = nn.MSELoss()",
            ["input=7x3"],
            id="both, and a loss for the batch",
        ),
        pytest.param("", ["input=32x3"], id="nothing in the file"),
    ],
)
def test_inputs_in_the_file(text: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(FILE + text)
    subject = load_subject(str(tmp_path / "model.py"))
    assert shown(subject.model, subject.inputs) == expected
    assert subject.inputs.origin == ("file" if text else "inferred")


def test_an_option_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(FILE + "example_batch = (torch.ones(5, 3), 0)\nloss_fn = nn.MSELoss()")
    subject = load_subject(str(tmp_path / "model.py"), input_specs=["4x3"])
    assert shown(subject.model, subject.inputs) == ["input=4x3"]
    assert (subject.loss_fn, subject.targets) == (None, None)


@pytest.mark.parametrize("name", ["make", "example_batch", "value"])
def test_inputs_from_another_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(FILE + "loss_fn = nn.MSELoss()\nexample_inputs = torch.ones(5, 3)")
    (tmp_path / "data.py").write_text(
        "import torch\ndef make(): return torch.ones(9, 3)\nvalue = make()\n"
        "def example_batch(): return make(), torch.ones(9, 2)"
    )
    subject = load_subject(str(tmp_path / "model.py"), inputs_from=f"{tmp_path / 'data.py'}:{name}")
    assert shown(subject.model, subject.inputs) == ["input=9x3"]
    assert (subject.loss_fn is not None) == (name == "example_batch")


def test_inputs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        from_example(torch.ones(2)).args = ()  # type: ignore[misc]
