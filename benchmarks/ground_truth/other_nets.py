"""Nets of the kinds that occur in families kept out alone: what thresholds were chosen on has none of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ground_truth.blocks import ACTIVATIONS, Cell, between, block_of, norm_of
from ground_truth.data import data_named


def _pyramid(cell: Cell) -> nn.Module:
    """An MLP that gets narrower: each layer two thirds of the one below, at least 8."""
    data = data_named(cell.data)
    layers, width = block_of(cell, data.features, cell.width, False), cell.width
    for _ in range(cell.depth - 1):
        narrower = max(8, width * 2 // 3)
        layers += block_of(cell, width, narrower, False)
        width = narrower
    return nn.Sequential(*layers, nn.Linear(width, data.classes))


class Dense(nn.Module):
    """Gives what it is given and, beside it, what its block makes of that."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Adds channels behind those of `x`."""
        return torch.cat([x, self.block(x)], 1)


def _dense_mlp(cell: Cell) -> nn.Module:
    data = data_named(cell.data)
    wide, layers = data.features, []
    for _ in range(cell.depth):
        layers.append(Dense(nn.Sequential(*block_of(cell, wide, cell.width, False))))
        wide += cell.width
    return nn.Sequential(*layers, nn.Linear(wide, data.classes))


def _strided(cell: Cell) -> nn.Module:
    """Convolutions, one of them with a stride, and the average over all positions below the head."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8)), *block_of(cell, 1, cell.width, True)]
    for number in range(1, cell.depth):
        block = block_of(cell, cell.width, cell.width, True)
        if number == (cell.depth + 1) // 2:
            block[0] = nn.Conv2d(cell.width, cell.width, 3, stride=2, padding=1)
        layers += block
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cell.width, 10))


def _signal(cell: Cell) -> nn.Module:
    """Convolutions along the rows of a digit, its columns the channels."""
    layers: list[nn.Module] = [nn.Unflatten(1, (8, 8))]
    for number in range(cell.depth):
        wide = 8 if number == 0 else cell.width
        layers.append(nn.Conv1d(wide, cell.width, 3, padding=1))
        layers += [*between(cell, cell.width, False), ACTIVATIONS[cell.activation]()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(cell.width * 8, 10))


class PostNorm(nn.Module):
    """norm(x + branch(x)): the residual block of the first transformers."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        width = cell.width
        activation = [*between(cell, width, False), ACTIVATIONS[cell.activation]()]
        self.branch = nn.Sequential(nn.Linear(width, width), *activation, nn.Linear(width, width))
        self.norm = nn.Sequential(*norm_of(cell, width, False))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        normed: Tensor = self.norm(x + self.branch(x))
        return normed


def _post_norm_mlp(cell: Cell) -> nn.Module:
    data = data_named(cell.data)
    blocks = [PostNorm(cell) for _ in range(cell.depth)]
    return nn.Sequential(nn.Linear(data.features, cell.width), *blocks, nn.Linear(cell.width, data.classes))


class Attention(nn.Module):
    """A transformer's block with one head: attention, then two layers; norms before them, or with `post` behind."""

    def __init__(self, cell: Cell, post: bool) -> None:
        super().__init__()
        width = cell.width
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.activation, self.post = ACTIVATIONS[cell.activation](), post
        self.norms = nn.ModuleList(nn.Sequential(*norm_of(cell, width, False)) for _ in range(2))

    def attend(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, tokens, width)."""
        q, k, v = self.qkv(x).chunk(3, -1)
        mixed: Tensor = self.out(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v)
        return mixed

    def feed(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        fed: Tensor = self.down(self.activation(self.up(x)))
        return fed

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        for norm, branch in zip(self.norms, (self.attend, self.feed), strict=True):
            x = norm(x + branch(x)) if self.post else x + branch(norm(x))
        return x


class Tokens(nn.Module):
    """Blocks over the rows of a digit, each a token with a learnt place, and a head over their average."""

    def __init__(self, cell: Cell, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.stem, self.places = nn.Linear(8, cell.width), nn.Parameter(0.02 * torch.randn(8, cell.width))
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(cell.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 64) → (N, 10)."""
        logits: Tensor = self.head(self.blocks(self.stem(x.unflatten(1, (8, 8))) + self.places).mean(1))
        return logits


class Mixer(nn.Module):
    """An MLP-Mixer's block: over tokens, then over channels."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        width = cell.width
        self.tokens = nn.Sequential(nn.Linear(8, 16), ACTIVATIONS[cell.activation](), nn.Linear(16, 8))
        self.channels = nn.Sequential(nn.Linear(width, width), ACTIVATIONS[cell.activation](), nn.Linear(width, width))
        self.norms = nn.ModuleList(nn.Sequential(*norm_of(cell, width, False)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, 8, width)."""
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = x + self.channels(self.norms[1](x))
        return mixed


class Recurrent(nn.Module):
    """Elman cells, `depth` above one another, over the rows of a digit `rounds` times; the head sees the last step."""

    def __init__(self, cell: Cell, rounds: int) -> None:
        super().__init__()
        self.rounds, width = rounds, cell.width
        self.inputs = nn.ModuleList(nn.Linear(8 if k == 0 else width, width) for k in range(cell.depth))
        self.states = nn.ModuleList(nn.Linear(width, width) for _ in range(cell.depth))
        self.activation, self.head = ACTIVATIONS[cell.activation](), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 64) → (N, 10)."""
        rows = x.unflatten(1, (8, 8))
        states = [rows.new_zeros(len(x), layer.out_features) for layer in self.states]  # type: ignore[misc]
        for t in range(8 * self.rounds):
            below = rows[:, t % 8]
            for k, (into, stay) in enumerate(zip(self.inputs, self.states, strict=True)):
                below = states[k] = self.activation(into(below) + stay(states[k]))
        logits: Tensor = self.head(states[-1])
        return logits


class Gated(nn.Module):
    """A gated linear unit: one half of a layer's outputs times an activation of the other. Batch norm by hand stands
    before the halves part, as in TabNet (Arik and Pfister 2021)."""

    def __init__(self, cell: Cell, wide: int) -> None:
        super().__init__()
        layer, norms = nn.Linear(wide, 2 * cell.width), between(cell, 2 * cell.width, False)
        self.layer: nn.Module = nn.Sequential(layer, *norms) if norms else layer
        self.gate = ACTIVATIONS[cell.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(N, wide) → (N, width)."""
        value, gate = self.layer(x).chunk(2, -1)
        gated: Tensor = value * self.gate(gate)
        return gated


def _gated_mlp(cell: Cell) -> nn.Module:
    data = data_named(cell.data)
    blocks = [Gated(cell, data.features if number == 0 else cell.width) for number in range(cell.depth)]
    return nn.Sequential(*blocks, nn.Linear(cell.width, data.classes))


def _norm_behind(cell: Cell) -> nn.Module:
    """An MLP with each norm behind the activation."""
    data = data_named(cell.data)
    layers: list[nn.Module] = []
    for number in range(cell.depth):
        wide = data.features if number == 0 else cell.width
        layers += [nn.Linear(wide, cell.width), ACTIVATIONS[cell.activation](), *norm_of(cell, cell.width, False)]
    return nn.Sequential(*layers, nn.Linear(cell.width, data.classes))


def _norm_once(cell: Cell) -> nn.Module:
    """An MLP with one norm, behind its first layer."""
    data = data_named(cell.data)
    layers = [nn.Linear(data.features, cell.width), *norm_of(cell, cell.width, False), ACTIVATIONS[cell.activation]()]
    for _ in range(cell.depth - 1):
        layers += [nn.Linear(cell.width, cell.width), *between(cell, cell.width, False), ACTIVATIONS[cell.activation]()]
    return nn.Sequential(*layers, nn.Linear(cell.width, data.classes))


OTHER_BUILDERS: dict[str, Callable[[Cell], nn.Module]] = {
    "pyramid": _pyramid,
    "dense": _dense_mlp,
    "strided": _strided,
    "signal": _signal,
    "postnorm": _post_norm_mlp,
    "attention": lambda cell: Tokens(cell, [Attention(cell, False) for _ in range(cell.depth)]),
    "attention-post": lambda cell: Tokens(cell, [Attention(cell, True) for _ in range(cell.depth)]),
    "mixer": lambda cell: Tokens(cell, [Mixer(cell) for _ in range(cell.depth)]),
    "recurrent": lambda cell: Recurrent(cell, 1),
    "recurrent-long": lambda cell: Recurrent(cell, 4),
    "gated": _gated_mlp,
    "norm-behind": _norm_behind,
    "norm-once": _norm_once,
}
