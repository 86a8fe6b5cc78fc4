"""The weight layers, blocks and joins that random models are built of: modules that each take one step, on features
(N, C), sequences (N, L, C), signals (N, C, L), images (N, C, H, W) or volumes (N, C, D, H, W).

A step is made for a `Shape` and a number, its `choice` among the forms that it has, and says as `out` which shape it
gives. All are kept bounded, so that ten of them do not overflow bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "x.tanh()": lambda x: x.tanh(),
    "torch.sigmoid": torch.sigmoid,
    "sigmoid_": lambda x: x.sigmoid_(),
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "F.gelu": F.gelu,
    "clamp": lambda x: x.clamp(min=0),
    "softplus": F.softplus,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "abs": abs,
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
}
MODULES: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.ELU,
    nn.SiLU,
    nn.Hardtanh,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.LeakyReLU(0.1, inplace=True),
)


@dataclass(frozen=True)
class Shape:
    """That of one sample: `channels` at each place of `size`, before it in convolutional models (`first`)."""

    channels: int
    size: tuple[int, ...]
    first: bool

    @property
    def dims(self) -> tuple[int, ...]:
        return (self.channels, *self.size) if self.first else (*self.size, self.channels)

    @property
    def axis(self) -> int:
        """Where the channels are, in a batch."""
        return 1 if self.first else -1


def layer(shape: Shape, choice: int = 1, channels: int | None = None) -> nn.Module:
    """A weight layer that keeps the size, to as many `channels`."""
    channels, bias = channels or shape.channels, choice % 3 != 0
    if not shape.first:
        return nn.Linear(shape.channels, channels, bias=bias)
    rank = len(shape.size)
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    kernel = [3] * rank if choice % 2 else ([1] * rank if choice % 4 else [3] + [1] * (rank - 1))
    groups = shape.channels if choice % 5 == 4 and channels % shape.channels == 0 else 1
    padding: Any = [k // 2 for k in kernel]
    return conv(shape.channels, channels, kernel, padding=padding, bias=bias, groups=groups)


def activation(choice: int) -> Callable[[Tensor], Tensor]:
    return list(ACTIVATIONS.values())[choice % len(ACTIVATIONS)]


class Step(nn.Module):
    """One layer and an activation, each a statement of forward."""

    def __init__(self, shape: Shape, choice: int) -> None:
        super().__init__()
        self.shape = self.out = shape
        self.choice = choice
        self.make()

    def make(self) -> None:
        self.layer = layer(self.shape, self.choice)

    def act(self, x: Tensor) -> Tensor:
        return activation(self.choice)(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x))


class Block(Step):
    """A layer and an activation in a Sequential, to another width."""

    def make(self) -> None:
        width = (self.shape.channels, 5, 7, 12)[self.choice % 4]
        self.out = replace(self.shape, channels=width)
        act = MODULES[self.choice % len(MODULES)]()
        self.both = nn.Sequential(layer(self.shape, self.choice, width), act)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)


class Functional(Step):
    """A layer that is a function of a parameter."""

    def make(self) -> None:
        c, rank = self.shape.channels, len(self.shape.size)
        self.weight = nn.Parameter(torch.randn((c, c, *([1] * rank if self.shape.first else []))) / c**0.5)
        self.bias = nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        if self.shape.first:
            conv: Any = (F.conv1d, F.conv2d, F.conv3d)[len(self.shape.size) - 1]
            return self.act(conv(x, self.weight, self.bias))
        form = self.choice % 4
        if form == 0:
            return self.act(F.linear(x, weight=self.weight, bias=self.bias))
        if form == 1:
            return self.act(x @ self.weight + self.bias)
        if form == 2 and x.dim() == 2:
            return self.act(torch.addmm(self.bias, x, self.weight))
        return self.act(torch.einsum("...i,io->...o", x, self.weight))


class Borrowed(Step):
    """A layer's parameters, used by a function."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return self.act(F.linear(x, self.layer.weight, self.layer.bias))
        return self.act(self.layer._conv_forward(x, self.layer.weight, self.layer.bias))


class Shared(Step):
    """One layer, called twice or thrice."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2 + self.choice % 2):
            x = self.act(self.layer(x))
        return x


class Tied(Step):
    """Two layers with one weight."""

    def make(self) -> None:
        self.layer, self.other = layer(self.shape, self.choice), layer(self.shape, self.choice)
        self.other.weight = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.other(self.act(self.layer(x))))


class Recurrent(Step):
    """A state that goes through a layer three times."""

    def make(self) -> None:
        self.layer, self.inner = layer(self.shape, self.choice), layer(self.shape, self.choice)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x)
        for _ in range(3):
            state = torch.tanh(self.layer(x) + self.inner(state))
        return state


class Residual(Step):
    def forward(self, x: Tensor) -> Tensor:
        if self.choice % 3 == 0:
            x = x.clone()
            x += self.act(self.layer(x))
            return x
        return self.act(self.layer(x)) + x if self.choice % 3 == 1 else self.act(self.layer(x) + x)


class Gate(Step):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.layer(x)) if self.choice % 2 else torch.tanh(x) * self.layer(x).sigmoid()


class Glu(Step):
    """A gated linear unit, by torch or spelled out."""

    def make(self) -> None:
        self.layer = layer(self.shape, self.choice, 2 * self.shape.channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.choice % 2:
            return F.glu(self.layer(x), dim=self.shape.axis)
        a, b = self.layer(x).chunk(2, dim=self.shape.axis)
        return a * torch.sigmoid(b)


class Branches(Step):
    """Two or three ways side by side, put together."""

    def make(self) -> None:
        self.ways = nn.ModuleList(layer(self.shape, self.choice) for _ in range(2 + self.choice % 2))
        if self.choice % 3 == 0:
            beside = replace(self.shape, channels=len(self.ways) * self.shape.channels)
            self.together = layer(beside, 1, self.shape.channels)

    def forward(self, x: Tensor) -> Tensor:
        ways = [self.act(way(x)) if i else way(x) for i, way in enumerate(self.ways)]
        if self.choice % 3 == 0:
            return self.together(torch.cat(ways, dim=self.shape.axis))
        return torch.stack(ways).mean(0) if self.choice % 3 == 1 else sum(ways[1:], ways[0]) / len(ways)


class Dense(Step):
    """What came in stands beside what came out."""

    def make(self) -> None:
        self.layer = layer(self.shape, self.choice, 3)
        self.out = replace(self.shape, channels=self.shape.channels + 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.act(self.layer(x))], dim=self.shape.axis)


class Attention(Step):
    """Each place looks at the others; features look at the other samples' channels."""

    def make(self) -> None:
        self.query, self.value = layer(self.shape, self.choice), layer(self.shape, self.choice)

    def forward(self, x: Tensor) -> Tensor:
        q, v = (part.reshape(x.size(0), -1, self.shape.channels) for part in (self.query(x), self.value(x)))
        if self.choice % 2:
            y = F.scaled_dot_product_attention(q, q, v)
        else:
            y = torch.softmax(q @ q.transpose(1, 2) / self.shape.channels**0.5, dim=-1) @ v
        return y.view(x.shape)
