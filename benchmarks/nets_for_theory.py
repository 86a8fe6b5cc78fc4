"""Small nets of every kind that theory.py's forecasts cover: builders, and a table of them with their input shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def he(module: nn.Module) -> nn.Module:
    """He's initialization of every weight layer, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def mlp(
    activation: Callable[[], nn.Module], depth: int, width: int, norm: Norm | None = None, dropout: float = 0.0
) -> nn.Sequential:
    """`depth` blocks of Linear, norm, activation and dropout, and a head of ten classes."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), *([norm(width)] if norm else []), activation()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(width, 10))


class Residual(nn.Module):
    """Two Linears a branch, `blocks` times. `pre`: norm and activation come before each Linear, and nothing behind the
    addition, as in ResNet v2."""

    def __init__(
        self, blocks: int, width: int, norm: Norm | None, pre: bool, activation: Callable[[Tensor], Tensor] = F.relu
    ) -> None:
        super().__init__()
        make = norm or (lambda _: nn.Identity())
        self.pre, self.activation = pre, activation
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 10)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.ModuleList([make(width), make(width)]) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, second, (one, other) in zip(self.first, self.second, self.norms, strict=True):  # type: ignore[misc]
            if self.pre:
                x = x + second(self.activation(other(first(self.activation(one(x))))))
            else:
                x = self.activation(x + other(second(self.activation(one(first(x))))))
        return self.head(x)


class ConvBlock(nn.Module):
    """A ResNet's basic block; the shortcut is a strided 1×1 convolution where the size changes."""

    def __init__(self, before: int, after: int, stride: int, norm: Norm | None) -> None:
        super().__init__()
        make = norm or (lambda _: nn.Identity())
        self.body = nn.Sequential(
            *(nn.Conv2d(before, after, 3, stride, 1, bias=norm is None), make(after), nn.ReLU()),
            *(nn.Conv2d(after, after, 3, padding=1, bias=norm is None), make(after)),
        )
        changes = stride > 1 or before != after
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride), make(after)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet(norm: Norm | None, channels: int = 32) -> nn.Sequential:
    """A ResNet of 14 layers for small images."""
    make = norm or (lambda _: nn.Identity())
    return nn.Sequential(
        *(nn.Conv2d(3, channels, 3, padding=1), make(channels), nn.ReLU(), nn.MaxPool2d(2)),
        *(ConvBlock(channels, channels, 1, norm), ConvBlock(channels, channels, 1, norm)),
        *(ConvBlock(channels, 2 * channels, 2, norm), ConvBlock(2 * channels, 2 * channels, 1, norm)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * channels, 10)),
    )


def conv_net(
    pool: Callable[[int], nn.Module], activation: Callable[[], nn.Module], norm: Norm | None = None, channels: int = 48
) -> nn.Sequential:
    """Eight 3×3 convolutions on 32×32 images, pooled after every second one."""
    layers: list[nn.Module] = []
    for block in range(8):
        layers += [nn.Conv2d(channels if block else 3, channels, 3, padding=1)]
        layers += [*([norm(channels)] if norm else []), activation(), *([pool(2)] if block % 2 else [])]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * channels, 10))


class Dense(nn.Module):
    """Each layer reads all before it, concatenated."""

    def __init__(self, norm: bool, layers: int = 8, growth: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, padding=1)
        sizes = [growth * (index + 1) for index in range(layers)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) if norm else nn.Identity() for size in sizes)
        self.layers = nn.ModuleList(nn.Conv2d(size, growth, 3, padding=1, bias=False) for size in sizes)
        self.head = nn.Linear(growth * (layers + 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(F.relu(norm(x)))], dim=1)
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    """h ← tanh(U x_t + W h): one weight, used at each step."""

    def __init__(self, width: int = 256, gain: float = 1.0) -> None:
        super().__init__()
        self.into, self.again, self.head = (nn.Linear(width, n) for n in (width, width, 10))
        for layer in (self.into, self.again):
            nn.init.normal_(layer.weight, std=gain / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.into(x[:, 0]))
        for step in range(1, x.shape[1]):
            h = torch.tanh(self.into(x[:, step]) + self.again(h))
        return self.head(h)


IMAGES = (16, 3, 32, 32)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "20 Linears, ReLU, batch norm, batch 64": (lambda: mlp(nn.ReLU, 20, 512, nn.BatchNorm1d), (64, 512)),
    "20 Linears, ReLU, batch norm, batch 8": (lambda: mlp(nn.ReLU, 20, 512, nn.BatchNorm1d), (8, 512)),
    "20 Linears, GELU, batch norm, batch 16": (lambda: mlp(nn.GELU, 20, 512, nn.BatchNorm1d), (16, 512)),
    "20 Linears, tanh, batch norm, batch 64": (lambda: mlp(nn.Tanh, 20, 512, nn.BatchNorm1d), (64, 512)),
    "20 Linears, ReLU, layer norm": (lambda: mlp(nn.ReLU, 20, 512, nn.LayerNorm), (64, 512)),
    "20 Linears, GELU, RMS norm": (lambda: mlp(nn.GELU, 20, 512, nn.RMSNorm), (64, 512)),
    "20 Linears, ReLU (He), dropout 0.3": (lambda: he(mlp(nn.ReLU, 20, 512, dropout=0.3)), (64, 512)),
    "20 Linears, ReLU, batch norm, dropout": (lambda: mlp(nn.ReLU, 20, 512, nn.BatchNorm1d, 0.3), (64, 512)),
    "residual, ReLU behind the addition (He)": (lambda: he(Residual(10, 256, None, False)), (64, 256)),
    "residual, ReLU behind it, batch norm": (lambda: Residual(10, 256, nn.BatchNorm1d, False), (64, 256)),
    "residual, ReLU behind it, layer norm": (lambda: Residual(10, 256, nn.LayerNorm, False), (64, 256)),
    "residual, pre-activation (He)": (lambda: he(Residual(10, 256, None, True)), (64, 256)),
    "residual, pre-activation, batch norm": (lambda: Residual(10, 256, nn.BatchNorm1d, True), (64, 256)),
    "residual, pre-activation, layer norm, tanh": (
        lambda: Residual(10, 256, nn.LayerNorm, True, torch.tanh),
        (64, 256),
    ),
    "ResNet-14": (lambda: resnet(nn.BatchNorm2d), IMAGES),
    "ResNet-14 without norms": (lambda: resnet(None), IMAGES),
    "ResNet-14, group norm": (lambda: resnet(partial(nn.GroupNorm, 8)), IMAGES),
    "8 convolutions, ReLU (He), max pooling": (lambda: he(conv_net(nn.MaxPool2d, nn.ReLU)), IMAGES),
    "8 convolutions, ReLU, max pooling, batch norm": (lambda: conv_net(nn.MaxPool2d, nn.ReLU, nn.BatchNorm2d), IMAGES),
    "8 convolutions, tanh, max pooling": (lambda: conv_net(nn.MaxPool2d, nn.Tanh), IMAGES),
    "8 convolutions, GELU (He), max pooling": (lambda: he(conv_net(nn.MaxPool2d, nn.GELU)), IMAGES),
    "8 convolutions, ReLU (He), average pooling": (lambda: he(conv_net(nn.AvgPool2d, nn.ReLU)), IMAGES),
    "8 convolutions, ReLU, average pooling, batch norm": (
        lambda: conv_net(nn.AvgPool2d, nn.ReLU, nn.BatchNorm2d),
        IMAGES,
    ),
    "8 convolutions, sigmoid, average pooling": (lambda: conv_net(nn.AvgPool2d, nn.Sigmoid), IMAGES),
    "dense connections": (lambda: Dense(norm=False), IMAGES),
    "dense connections, batch norm": (lambda: Dense(norm=True), IMAGES),
    "recurrent, 10 steps of one weight": (Recurrent, (16, 10, 256)),
}
