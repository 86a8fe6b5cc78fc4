"""Models in many styles, each with its inputs for a batch size: what a capture must replay.

`MODELS` maps a sentence to (class or factory of the model, inputs for a batch size, batch sizes to replay at).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

WIDTH = 6
Case = tuple[Callable[[], nn.Module], Callable[[int], Any]]
MODELS: dict[str, Case] = {}


def features(batch: int) -> Tensor:
    return torch.randn(batch, WIDTH)


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 8, 8)


def sequences(batch: int) -> Tensor:
    return torch.randn(batch, 5, WIDTH)


def tokens(batch: int) -> Tensor:
    return torch.randint(0, 11, (batch, 5))


def replays(sentence: str, inputs: Callable[[int], Any] = features) -> Callable[[Any], Any]:
    """Enters a class, or a factory, of models in the table."""

    def enter(factory: Any) -> Any:
        assert sentence not in MODELS
        MODELS[sentence] = factory, inputs
        return factory

    return enter


def function_of_layer(
    sentence: str, inputs: Callable[[int], Any] = features, width: int = WIDTH
) -> Callable[[Any], Any]:
    """Enters a function (module, x): what a model does between its first layer, `module.linear`, and its output."""

    def enter(forward: Callable[[nn.Module, Tensor], Any]) -> Any:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(width, width)

        Net.forward = lambda self, x: forward(self, self.linear(x))  # type: ignore[method-assign]
        Net.__name__ = Net.__qualname__ = "".join(word.capitalize() for word in forward.__name__.split("_"))
        MODELS[sentence] = Net, inputs
        return forward

    return enter


# -- layers and containers ---------------------------------------------------------------------------------------------


@replays("an MLP in a Sequential")
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


@replays("a Linear that is the whole model")
def bare_linear() -> nn.Module:
    return nn.Linear(WIDTH, 3)


@replays("a conv net with batch norm, pooling and dropout", images)
def conv_net() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1, stride=2), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3)),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.LeakyReLU(0.1, inplace=True)),
        *(nn.Dropout(0.2), nn.Linear(5, 2)),
    )


@replays("nested containers of modules")
class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {"in": nn.Sequential(nn.Linear(WIDTH, 4), nn.Sequential(nn.ReLU())), "out": nn.Linear(4, WIDTH)}
            )
            for _ in range(3)
        )
        self.scales = nn.ParameterList([nn.Parameter(torch.full((WIDTH,), 0.5 + i)) for i in range(3)])
        self.named = nn.ParameterDict({"shift": nn.Parameter(torch.randn(WIDTH))})

    def forward(self, x: Tensor) -> Tensor:
        for block, scale in zip(self.blocks, self.scales, strict=True):
            x = x + scale * block["out"](block["in"](x))
        return x + self.named["shift"]


@replays("one layer called twice, and two names for one layer")
class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(WIDTH, WIDTH)
        self.b = nn.Linear(WIDTH, WIDTH)
        self.again = self.a
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.b.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.again(self.b(self.a(x).relu()).tanh()).relu())


@replays("functional layers over parameters of its own", images)
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3) * 0.2)
        self.weight = nn.Parameter(torch.randn(2, 16) * 0.2)
        self.bias = nn.Parameter(torch.zeros(2))
        self.mix = nn.Parameter(torch.randn(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(F.conv2d(x, self.kernel, padding="same")), 4)
        x = F.linear(torch.flatten(x, 1), weight=self.weight, bias=self.bias)
        return torch.addmm(self.bias, x @ self.mix + self.bias, self.mix.t()) + torch.einsum("bi,ij->bj", x, self.mix)


@replays("multi-head attention with its weights", sequences)
class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mixed, weights = self.attention(x, x, x, average_attn_weights=False)
        return mixed, weights


@replays("a transformer encoder of torch.nn", sequences)
def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@replays("an encoder layer of torch.nn that is the whole model", sequences)
def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True, norm_first=True, activation="gelu")


@replays(
    "a full transformer of torch.nn with a causal mask", lambda batch: (sequences(batch), torch.randn(batch, 3, WIDTH))
)
class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(WIDTH, 2, 1, 1, 8, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.size(1), device=target.device)
        return self.body(source, target, tgt_mask=mask, tgt_is_causal=True)


@replays("embeddings, positions by arange and a padding mask", tokens)
class TokenModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, WIDTH, padding_idx=0)
        self.position = nn.Embedding(5, WIDTH)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True), 1)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.embed(ids) + self.position(torch.arange(length, device=ids.device))
        return self.encoder(x, src_key_padding_mask=ids == 99)[:, -1]


@replays("LSTM and GRU with their states", sequences)
class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 4, 2, batch_first=True, bidirectional=True, dropout=0.2)
        self.gru = nn.GRU(8, 3, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Any]:
        out, (hidden, cell) = self.lstm(x)
        start = torch.zeros(1, x.size(0), 3, device=x.device)
        out, last = self.gru(out, start)
        return {"out": out, "states": (hidden, cell), "last": last[-1]}


@replays("a recurrent cell stepped by hand", sequences)
class Stepped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(WIDTH, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 4)
        c = torch.zeros_like(h)
        outs = []
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
            outs.append(self.head(h))
        return torch.stack(outs, dim=1)


@replays("weight norm, spectral norm and parametrizations, old and new")
class Reparametrized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.new = parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
        self.old = weight_norm(nn.Linear(WIDTH, WIDTH))
        self.spectral = parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.old_spectral = spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.orthogonal = parametrizations.orthogonal(nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.new, self.old, self.spectral, self.old_spectral, self.orthogonal):
            x = torch.tanh(layer(x))
        return x


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@replays("a parametrized parameter of a module of the user's own")
class OwnParametrized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        nn.utils.parametrize.register_parametrization(self, "weight", Doubled())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.weight).relu(), self.weight)


# -- inputs and outputs ------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass
class Batch:
    values: Tensor
    scale: Tensor | None = None
    factor: float = 2.0


@dataclass
class Result:
    logits: Tensor
    extra: tuple[Tensor, ...]
    note: str = "fine"


@replays("a dictionary in and out", lambda batch: ({"x": features(batch), "y": features(batch)},))
class OfDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        out = self.linear(batch["x"] + batch["y"])
        return {"logits": out, "parts": [batch["x"].relu(), (out * 2, None)], "n": 3}


@replays("a named tuple in and out", lambda batch: (Pair(features(batch), features(batch)),))
class OfPair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, pair: Pair) -> Pair:
        return Pair(left=self.linear(pair.left), right=self.linear(pair.right))


@replays("a dataclass in and out", lambda batch: (Batch(features(batch), torch.rand(batch, 1)),))
class OfDataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, batch: Batch) -> Result:
        x = self.linear(batch.values) * batch.factor
        if batch.scale is not None:
            x = x * batch.scale
        return Result(x, (x.relu(), x.tanh()))


@replays("an OrderedDict out")
class OfOrdered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        y = self.linear(x)
        return OrderedDict(b=y, a=[y.relu(), {"deep": y.exp()}])


@replays(
    "keyword arguments, one of them None and one with a default", lambda batch: {"x": features(batch), "mask": None}
)
class WithKeywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 2.0) -> Tensor:
        y = self.linear(x) * scale
        return y if mask is None else y * mask


@replays("a None among the positional arguments", lambda batch: (features(batch), None, features(batch)))
class WithNone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, mask: Tensor | None, y: Tensor) -> Tensor:
        return self.linear(x + y if mask is None else x * mask + y)


@replays("*args", lambda batch: (features(batch), features(batch), features(batch)))
class WithStar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, first: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.linear(first * other) for other in rest)


@replays("**kwargs", lambda batch: {"x": features(batch), "y": features(batch)})
class WithStarStar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        return [self.linear(value).relu() for value in inputs.values()]


@replays("an output that is the input", lambda batch: features(batch).requires_grad_())
class PassesOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.linear(x)


# -- ops in forward ----------------------------------------------------------------------------------------------------


@function_of_layer("F.dropout that follows the mode")
def functional_dropout(net: nn.Module, x: Tensor) -> Tensor:
    return F.dropout(F.dropout(x, 0.4, net.training), p=0.2, training=net.training)


@function_of_layer("activations in place")
def in_place_activations(net: nn.Module, x: Tensor) -> Tensor:
    x = F.relu(x, inplace=True) * 1.5
    x.tanh_()
    return torch.sigmoid_(x * 2)


@function_of_layer("x += y and other assignments")
def augmented(net: nn.Module, x: Tensor) -> Tensor:
    y = x * 2
    y += x
    y *= 1.5
    y -= 1
    y /= 2
    y **= 2
    return -y


@function_of_layer("assignments to parts of a tensor")
def assigns_parts(net: nn.Module, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 0] = x[:, 1].relu()
    y[..., 1:3] = x[..., 2:4]
    y[:, 4][x[:, 4] > 0] = 2.0
    y.select(1, 5).copy_(x[:, 0].exp())
    return y


@function_of_layer("a view that is changed in place")
def changes_a_view(net: nn.Module, x: Tensor) -> Tensor:
    y = x * 1
    part = y[:, :2]
    part.mul_(3).relu_()
    return y


@function_of_layer("chunk, split and unbind")
def takes_apart(net: nn.Module, x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    c, d = torch.split(x, [2, 4], dim=1)
    first, *others = x.unbind(1)
    return torch.cat([a * b.sigmoid(), d.sum(1, keepdim=True) * c, torch.stack(others, -1) * first[:, None]], dim=1)


@function_of_layer("flattening by view and back", sequences)
def flattens(net: nn.Module, x: Tensor) -> Tensor:
    batch, length, width = x.shape
    flat = net.linear(x.reshape(batch * length, width)).relu()
    y = flat.view(batch, length, -1).transpose(1, 2).contiguous().view(x.size(0), -1)
    return torch.cat((y, flat.view(batch, -1)), 1).view(-1, 2 * length * width) * x.numel() ** 0.5


@function_of_layer("arithmetic on shapes", images, width=8)
def shape_arithmetic(net: nn.Module, x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    tiles = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    tiles = tiles.reshape(batch * (height // 2) * (width // 2), -1)
    back = tiles.view(batch, height // 2 * (width // 2), channels * 4).mean(1)
    return back * (x.shape[0] / len(x)) + tiles.sum() / tiles.shape[0]


@function_of_layer("tensors made to measure")
def made_to_measure(net: nn.Module, x: Tensor) -> Tensor:
    a = torch.zeros(x.size(0), 3, device=x.device)
    b = torch.ones((len(x), 1), device=x.device, dtype=x.dtype)
    c = x.new_full((x.shape[0], 2), 0.5)
    d = torch.arange(x.size(0), device=x.device).unsqueeze(1) + torch.linspace(0, 1, 2)
    e = torch.eye(x.size(0)).sum(1, keepdim=True)
    mask = torch.ones(x.size(1), x.size(1)).tril().bool()
    return torch.cat([a, b, c, d, e, x @ mask.float()], dim=1).expand(x.size(0), -1)


@function_of_layer("numbers drawn at random")
def draws(net: nn.Module, x: Tensor) -> Tensor:
    noisy = x + 0.1 * torch.randn_like(x) + torch.rand(x.size(0), 1, device=x.device)
    noisy = noisy + torch.empty_like(x).normal_() * torch.bernoulli(torch.full_like(x, 0.5))
    return noisy * torch.randint(1, 3, (x.shape[0], 1)) + torch.normal(0.0, 1.0, size=(x.shape[0], 1))


@function_of_layer("properties of tensors")
def properties(net: nn.Module, x: Tensor) -> Tensor:
    return x.T.T.mT.mT + x.data + x.H.real.T + (x * x.T.shape[0]).to(x.dtype).to(x.device)


@function_of_layer("detach and no_grad")
def without_grad(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.abs().mean()
        with torch.enable_grad():
            y = x * 2
    return x / scale + x.detach() + y + net.linear.weight.detach().sum()


@torch.no_grad()
def _scale(x: Tensor) -> Tensor:
    return x.std()


@function_of_layer("a function decorated with no_grad")
def decorated(net: nn.Module, x: Tensor) -> Tensor:
    return x / _scale(x)


@function_of_layer("set_grad_enabled and inference of a part")
def grad_switch(net: nn.Module, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(net.training):
        y = x.exp()
    return x + y


@function_of_layer("an autocast region")
def autocast_region(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net.linear(x)
        with torch.autocast(x.device.type, enabled=False):
            z = net.linear(x)
    return y.float() + z


class Reversed(torch.autograd.Function):
    """The identity with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grad, None


@function_of_layer("a custom autograd function")
def custom_function(net: nn.Module, x: Tensor) -> Tensor:
    return Reversed.apply(x, 3.0).relu()


@function_of_layer("a straight-through estimator")
def straight_through(net: nn.Module, x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


@function_of_layer("checkpoints of both kinds")
def checkpoints(net: nn.Module, x: Tensor) -> Tensor:
    def block(y: Tensor) -> Tensor:
        return net.linear(y).relu()

    x = checkpoint(block, x, use_reentrant=False)
    x = checkpoint(block, x, use_reentrant=True)
    return checkpoint_sequential(nn.Sequential(net.linear, nn.Tanh(), net.linear), 2, x, use_reentrant=False)


@function_of_layer("tensors made from Python and numpy values")
def from_values(net: nn.Module, x: Tensor) -> Tensor:
    scale = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0], device=x.device)
    shift = torch.from_numpy(np.arange(6, dtype=np.float32))
    return x * scale + shift.to(x) + torch.as_tensor(0.5) + torch.tensor(np.float32(2.0))


@function_of_layer("the same op in every spelling")
def spellings(net: nn.Module, x: Tensor) -> Tensor:
    y = torch.relu(x) + x.relu() + F.relu(x) + x.clamp(min=0) + torch.Tensor.relu(x) + torch.ops.aten.relu(x)
    z = torch.nn.functional.gelu(y, approximate="tanh") + torch._C._nn.gelu(y) + torch.special.expit(y)
    return (
        z
        + torch.where(x > 0, x, 0.1 * x)
        + torch.maximum(x, torch.zeros(()))
        + abs(x)
        + 2**x
        + (1 - x) / 2
        + x @ x.T @ x
    )


@function_of_layer("a loop over the batch's own time steps", sequences)
def loops(net: nn.Module, x: Tensor) -> Tensor:
    h = torch.zeros_like(x[:, 0])
    for step in x.unbind(1):
        h = torch.tanh(net.linear(step) + h)
    return h


@function_of_layer("iterating over a tensor", sequences)
def iterates(net: nn.Module, x: Tensor) -> Tensor:
    return sum((step.relu() for step in x.transpose(0, 1)), torch.zeros(()))


@function_of_layer("indices, gather and scatter")
def indices(net: nn.Module, x: Tensor) -> Tensor:
    order = x.argsort(dim=1)
    top, where = x.topk(2, dim=1)
    y = x.gather(1, order) + torch.zeros_like(x).scatter(1, where, top)
    rows = torch.arange(x.size(0))
    y = y + x[rows, order[:, 0]].unsqueeze(1)
    return y.masked_fill(y > 1, 0.0) + x[:, [0, 2, 1, 3, 5, 4]] + x[:, None, ::2].sum(-1)


@function_of_layer("results by name")
def named_results(net: nn.Module, x: Tensor) -> Tensor:
    best = x.max(dim=1)
    ordered = torch.sort(x, dim=1)
    values, vectors = torch.linalg.eigh(x.T @ x)
    return (
        best.values
        + ordered.values.sum(1)
        + ordered[0].prod(1)
        + torch.std_mean(x, 1)[1]
        + values.sum()
        + 0 * vectors.sum()
    )


@function_of_layer("scaled dot-product attention by hand", sequences)
def attends(net: nn.Module, x: Tensor) -> Tensor:
    batch, length, width = x.shape
    heads = x.view(batch, length, 2, width // 2).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True, dropout_p=0.1 if net.training else 0.0)
    by_hand = torch.softmax(heads @ heads.transpose(-2, -1) / heads.size(-1) ** 0.5, dim=-1) @ heads
    return (mixed + by_hand).transpose(1, 2).reshape(batch, length, width)


@function_of_layer("complex numbers and a Fourier transform")
def fourier(net: nn.Module, x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x, dim=-1)
    return torch.fft.irfft(spectrum * torch.view_as_complex(torch.ones(4, 2)), n=x.shape[-1]) + spectrum.abs().sum(
        -1, keepdim=True
    )


# -- state, modes, hooks -----------------------------------------------------------------------------------------------


@replays("an auxiliary head in training only")
class AuxiliaryHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(WIDTH, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.body(x).relu()
        if self.training:
            return self.head(x), self.aux(x)
        return self.head(x).softmax(-1)


@replays("another number of samples of noise in training")
class ModeConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * (0.5 if self.training else 2.0) + (x.size(0) if self.training else 1)


@replays("plain tensors as attributes")
class PlainTensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.mean = torch.arange(6.0)
        self.table = {"std": torch.full((6,), 2.0), "more": [torch.ones(6)]}

    def forward(self, x: Tensor) -> Tensor:
        return self.linear((x - self.mean) / self.table["std"]) + self.table["more"][0]


@replays("buffers updated in forward")
class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("running", torch.zeros(WIDTH))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("unsaved", torch.ones(WIDTH), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        if self.training:
            with torch.no_grad():
                self.running.mul_(0.9).add_(0.1 * x.mean(0))
                self.steps += 1
        return (x - self.running) * self.unsaved


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


@replays("forward hooks on layers and on containers")
def hooked() -> nn.Module:
    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = Scaled(), nn.Linear(WIDTH, WIDTH), nn.Sequential(nn.Linear(WIDTH, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.third(self.second(self.first(x)))

    net = Gain()
    net.first.register_forward_hook(_doubles)
    net.first.register_forward_pre_hook(_shifts)
    net.second.register_forward_hook(_doubles)
    net.second.register_forward_pre_hook(_shifts)
    net.third.register_forward_hook(_doubles)
    net.register_forward_hook(_doubles)
    return net


def _doubles(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return 2 * output


def _shifts(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0] + 1,)


@replays("dropout that stays on in evaluation")
class AlwaysDrops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5)


@replays("a layer of the user's own that subclasses torch's")
class OwnLayers(nn.Module):
    class Cosine(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.normalize(x), F.normalize(self.weight), self.bias)

    def __init__(self) -> None:
        super().__init__()
        self.cosine = self.Cosine(WIDTH, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.cosine(x).relu())


@replays("a stochastic depth that draws per sample")
class DropPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x + self.linear(x)
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(0.8)
        return x + self.linear(x) * keep.div_(0.8)


@replays("float64 throughout", lambda batch: features(batch).double())
def doubles() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.BatchNorm1d(5), nn.SELU(), nn.Linear(5, 2)).double()
