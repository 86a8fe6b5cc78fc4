"""The nets that are nowhere else: recurrent, transformer and generator, each with any norm or none."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm of (N, L, C) over samples and positions alike: the axis that `nn.BatchNorm1d` would not take."""

    def forward(self, input: Tensor) -> Tensor:
        """Keeps the shape."""
        return super().forward(input.flatten(0, -2)).view_as(input)


class Elman(nn.Module):
    """h ← tanh(norm(U x_t + W h)) over (N, T, features), and a head that sees the last h.

    `norms` has one norm for all steps, one for each step, or none. Batch norms start at the weight `start`: Cooijmans
    et al. 2017 (Recurrent Batch Normalization) advise 0.1.
    """

    def __init__(self, features: int, width: int, norms: list[nn.Module], start: float = 1.0) -> None:
        super().__init__()
        self.into, self.again, self.head = nn.Linear(features, width), nn.Linear(width, width), nn.Linear(width, 10)
        self.norms = nn.ModuleList(norms)
        for norm in norms:
            if isinstance(norm, nn.BatchNorm1d):
                nn.init.constant_(norm.weight, start)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, features) → (N, 10)."""
        h = x.new_zeros(len(x), self.again.in_features)
        for t in range(x.shape[1]):
            z = self.into(x[:, t]) + self.again(h)
            if self.norms:
                z = self.norms[t % len(self.norms)](z)
            h = torch.tanh(z)
        logits: Tensor = self.head(h)
        return logits


class LongShortTermMemory(nn.Module):
    """`nn.LSTM` and a head that sees its last output."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(features, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, features) → (N, 10)."""
        logits: Tensor = self.head(self.lstm(x)[0][:, -1])
        return logits


class TransformerBlock(nn.Module):
    """Attention, then two layers, each a branch that begins with a norm."""

    def __init__(self, width: int, norm: Norm, causal: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norms, self.causal = nn.ModuleList([norm(width), norm(width)]), causal

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, L, width)."""
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal))
        fed: Tensor = x + self.down(F.gelu(self.up(self.norms[1](x))))
        return fed


class Transformer(nn.Module):
    """Blocks over the eight rows of a digit. Causal: predicts at each row the next one; else the class of the whole."""

    def __init__(self, depth: int, width: int, norm: Norm, causal: bool) -> None:
        super().__init__()
        self.stem, self.places = nn.Linear(8, width), nn.Parameter(0.02 * torch.randn(8, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, norm, causal) for _ in range(depth)))
        self.norm, self.causal = norm(width), causal
        self.head = nn.Linear(width, 8 if causal else 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 64) → (N, 8, 8) or (N, 10)."""
        h = self.norm(self.blocks(self.stem(x.unflatten(1, (8, 8))) + self.places))
        put_out: Tensor = self.head(h if self.causal else h.mean(1))
        return put_out


LATENT = 16


def generator(norm: Norm | None, width: int = 32) -> nn.Sequential:
    """(N, 16) → (N, 1, 8, 8), as DCGAN (Radford et al. 2016): transposed convolutions, no norm before the output."""

    def normed(channels: int) -> list[nn.Module]:
        return [norm(channels)] if norm else []

    return nn.Sequential(
        *(nn.Unflatten(1, (LATENT, 1, 1)), nn.ConvTranspose2d(LATENT, 2 * width, 2), *normed(2 * width), nn.ReLU()),
        *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), *normed(2 * width), nn.ReLU()),
        *(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), *normed(width), nn.ReLU()),
        *(nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh()),
    )


def discriminator(norm: Norm | None, width: int = 32) -> nn.Sequential:
    """(N, 1, 8, 8) → (N,), as DCGAN: no norm behind the first layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(width, 2 * width, 3, 2, 1), *([norm(2 * width)] if norm else []), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(8 * width, 1), nn.Flatten(0)),
    )


def frechet(one: Tensor, other: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians that fit two sets of samples (N, features): 0 for equal ones."""
    one, other = one.double(), other.double()
    first, second = torch.cov(one.T), torch.cov(other.T)
    # the trace of the root of a product of covariances is the sum of the roots of its eigenvalues
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return float((one.mean(0) - other.mean(0)).square().sum() + first.trace() + second.trace() - 2 * roots)
