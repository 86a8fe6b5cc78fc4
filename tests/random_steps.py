"""The other steps of random models: norms, dropout, noise, views, in-place operations, buffers, other sizes, and code
that is more than layers. `STEPS` holds all there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from random_layers import (
    Attention,
    Block,
    Borrowed,
    Branches,
    Dense,
    Functional,
    Gate,
    Glu,
    Recurrent,
    Residual,
    Shape,
    Shared,
    Step,
    Tied,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class HandWrittenNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt((x - mean).pow(2).mean(-1, keepdim=True) + 1e-5)


class Norm(Step):
    def make(self) -> None:
        c, rank = self.shape.channels, len(self.shape.size)
        forms: tuple[Callable[[], nn.Module], ...]
        if self.shape.first:
            batch: Any = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
            instance: Any = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[rank - 1]
            forms = (lambda: batch(c), lambda: nn.GroupNorm(1, c), lambda: instance(c, affine=True))
        else:
            forms = (lambda: nn.LayerNorm(c), lambda: nn.RMSNorm(c), HandWrittenNorm)
            forms = forms if rank else (lambda: nn.BatchNorm1d(c), *forms)
        self.layer = forms[self.choice % len(forms)]()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Dropout(Step):
    def make(self) -> None:
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) if self.choice % 2 else F.dropout(x, 0.2, self.training)


class Noise(Step):
    def make(self) -> None:
        self.amount = 0.01

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        form = self.choice % 3
        if form == 0:
            return x + self.amount * torch.randn_like(x)
        if form == 1:
            return x + self.amount * torch.rand(x.shape, dtype=x.dtype, device=x.device)
        return x * torch.empty(x.size(0), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(0.9)


class View(Step):
    """Views that end in the shape that came in."""

    def make(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        n, form = x.size(0), self.choice % 8
        if form == 0:
            return x.reshape(n, -1).view(x.shape)
        if form == 1:
            return x.transpose(0, 1).transpose(0, 1)
        if form == 2:
            return torch.cat([x[:, 1:], x[:, :1]], dim=1)
        if form == 3:
            return torch.stack(x.unbind(1), dim=1)
        if form == 4:
            return x.flatten().unflatten(0, (n, -1)).view_as(x)
        if form == 5:
            return x.unsqueeze(1).expand(-1, 2, *x.shape[1:]).mean(1)
        if form == 6:
            return x.view(-1, x.shape[-1]).t().contiguous().t().reshape(x.shape)
        first, rest = x.split([1, x.size(1) - 1], dim=1)
        return torch.cat([rest, first], dim=1)


class InPlace(Step):
    """In-place operations on a copy, on views of it, and on the output of a layer."""

    def forward(self, x: Tensor) -> Tensor:
        form = self.choice % 6
        if form == 0:
            y = x * 1.0
            y += 0.1
            y[:, 0] = y[:, 0] * 0.5
            return y
        if form == 1:
            return self.layer(x).mul_(0.5).add_(x).relu_()
        if form == 2:
            y = x.clone()
            y.narrow(1, 0, 1).mul_(0.5)
            return self.act(self.layer(y))
        if form == 3:
            y = torch.zeros_like(x)
            y[..., :1] = x[..., :1]
            y[..., 1:] += x[..., 1:]
            return y
        if form == 4:
            y = x.clone()
            y.masked_fill_(y < -2, -2.0)
            return y.clamp_(max=2.0)
        y = self.layer(x)
        y.view(x.size(0), -1)[:, ::2].neg_()
        return self.act(y)


class Buffer(Step):
    """Buffers that scale, and buffers that forward changes."""

    def make(self) -> None:
        self.register_buffer("scale", torch.linspace(0.5, 1.5, self.shape.channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long), persistent=self.choice % 2 == 0)
        self.register_buffer("mean", torch.zeros(self.shape.channels))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        shape = (-1, *[1] * len(self.shape.size)) if self.shape.first else (-1,)
        if self.choice % 3 == 1 and self.training:
            axes = [d for d in range(x.dim()) if d != self.shape.axis % x.dim()]
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.mean(axes))
        if self.choice % 3 == 2 and self.training:
            axes = [d for d in range(x.dim()) if d != self.shape.axis % x.dim()]
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(axes)
        return (x - self.mean.view(shape)) * self.scale.view(shape)


class Detached(Step):
    def forward(self, x: Tensor) -> Tensor:
        if self.choice % 2:
            return self.act(self.layer(x)) + 0.5 * x.detach()
        with torch.no_grad():
            spread = self.layer(x).abs().mean()
        return x / (1.0 + spread)


class Resize(Step):
    """Another size: pooling, a stride, a transposed convolution; a sequence is cut, features get another width."""

    def make(self) -> None:
        size, c, rank = self.shape.size, self.shape.channels, len(self.shape.size)
        self.layer = nn.Identity()
        if not self.shape.first:
            if size:
                self.out = replace(self.shape, size=(max(1, size[0] - 1),))
            else:
                self.layer = nn.Linear(c, 9)
                self.out = replace(self.shape, channels=9)
        elif min(size) >= 3 and self.choice % 3 == 0:
            conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
            self.layer = conv(c, 5, 3, stride=2)
            self.out = Shape(5, tuple((s - 3) // 2 + 1 for s in size), True)
        elif min(size) >= 4 and self.choice % 3 == 1:
            pool: Any = (nn.MaxPool1d, nn.AvgPool2d, nn.MaxPool3d)[rank - 1]
            self.layer = pool(2)
            self.out = replace(self.shape, size=tuple(s // 2 for s in size))
        elif max(size) <= 4:
            conv = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
            self.layer = conv(c, 5, 2, stride=2)
            self.out = Shape(5, tuple(2 * s for s in size), True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x[:, : self.out.size[0]] if self.shape.size and not self.shape.first else x


class ByBatch(Step):
    """Sizes that hang on the batch size, written out."""

    def forward(self, x: Tensor) -> Tensor:
        n, form = len(x), self.choice % 5
        if form == 0:
            return self.act(self.layer(x)) + x.new_zeros(n, *x.shape[1:])
        if form == 1:
            return self.layer(x[torch.arange(n - 1, -1, -1, device=x.device)])
        if form == 2:
            rank = torch.arange(n, device=x.device).view(-1, *[1] * (x.dim() - 1)) / n
            return x + rank.to(x.dtype)
        if form == 3:
            first, second = x[: n // 2], x[n // 2 :]
            return self.act(self.layer(torch.cat([second, first])))
        return x - x.sum(0, keepdim=True) / (2 * n)


class Square(torch.autograd.Function):
    """x², halved, with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(-2, 2).square() / 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.clamp(-2, 2)


class Custom(Step):
    def forward(self, x: Tensor) -> Tensor:
        return Square.apply(self.layer(x))


class Checkpointed(Step):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


class ReadsValues(Step):
    """Goes its way by a value."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x)) if x.detach().abs().max() < 1e6 else x


class Remembers(Step):
    """Counts its calls, and keeps what it computed in attributes, a list and a dict."""

    def make(self) -> None:
        super().make()
        self.calls = 0
        self.sizes: list[int] = []
        self.cache: dict[str, Any] = {}
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(len(x))
        self.cache["seen"] = tuple(x.shape)
        y = self.act(self.layer(x))
        if self.choice % 2:
            self.last = y.detach()
        return y


STEPS: dict[str, tuple[type[Step], int]] = {
    "block": (Block, 5),
    "statement": (Step, 4),
    "functional": (Functional, 3),
    "borrowed": (Borrowed, 1),
    "shared": (Shared, 2),
    "tied": (Tied, 1),
    "recurrent": (Recurrent, 1),
    "residual": (Residual, 2),
    "gate": (Gate, 1),
    "glu": (Glu, 1),
    "branches": (Branches, 2),
    "dense": (Dense, 1),
    "attention": (Attention, 1),
    "norm": (Norm, 2),
    "dropout": (Dropout, 1),
    "noise": (Noise, 1),
    "view": (View, 2),
    "in place": (InPlace, 2),
    "buffer": (Buffer, 2),
    "detached": (Detached, 1),
    "resize": (Resize, 2),
    "by batch": (ByBatch, 1),
    "custom": (Custom, 1),
    "checkpointed": (Checkpointed, 1),
    "reads values": (ReadsValues, 1),
    "remembers": (Remembers, 1),
}
"""Every step, and how often it is drawn."""
