"""A family of like nets: what its cells are drawn from, at random, with seeds that never change."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ground_truth.blocks import Cell


@dataclass(frozen=True)
class Draw:
    """A group of cells that were drawn together: so many of each family, with the seeds from `seed` on, at random from
    the `words`."""

    group: str
    words: str
    seed: int
    count: int


DRAWS = (
    Draw("drawn first", "trainability", 0, 8),
    Draw("drawn third", "trainability, last", 100, 3),
    Draw("drawn fourth", "trainability, fourth", 200, 3),
    Draw("drawn fifth", "trainability, fifth", 300, 4),
    Draw("drawn sixth", "trainability, sixth", 400, 4),
    Draw("drawn seventh", "trainability, seventh", 500, 6),
    Draw("drawn eighth", "trainability, eighth", 600, 4),
    Draw("drawn last", "trainability, ninth", 700, 8),
)
"""Each group but the first was drawn when thresholds had been chosen on those before. The first are two: the families
of cells.py and of unseen.py."""

COST_LIMIT = 2e6
"""depth · width² · positions of a net: what can be trained a thousand times on one core."""

INITS = ("default", "glorot", "he", "orthogonal", "he/10", "he/3", "he*3", "normal0.01", "normal1")
SOUND = ("default", "glorot", "he", "orthogonal")
DEPTHS = (2, 3, 5, 8, 12, 20, 30, 40)
WIDTHS = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Family:
    """What the cells of a family are drawn from."""

    name: str
    kind: str = "mlp"
    activations: Sequence[str] = ("relu",)
    inits: Sequence[str] = INITS
    depths: Sequence[int] = DEPTHS
    widths: Sequence[int] = WIDTHS
    data: Sequence[str] = ("digits", "digits", "circles", "blobs")
    norms: Sequence[str] = ("none",)
    dropouts: Sequence[float] = (0.0,)
    traps: Sequence[str] = ("none",)
    scales: Sequence[float] = (1.0,)
    shifts: Sequence[float] = (0.0,)

    def cells(self, drawn: Draw) -> list[Cell]:
        """The family's cells of a group; equal at each call, and unaffected by other families."""
        draw = random.Random(f"{drawn.words} {self.name}")
        found: dict[str, Cell] = {}
        while len(found) < drawn.count:
            cell = self._drawn(draw, seed=drawn.seed + len(found))
            positions = 40 if self.convolves else 1
            layers = cell.depth * (2 if self.kind.startswith("res") else 1)
            if layers * cell.width**2 * positions <= COST_LIMIT:
                found.setdefault(cell.name, cell)
        return list(found.values())

    @property
    def convolves(self) -> bool:
        """Whether the nets take images, or the rows of images, and weights are used at many positions."""
        return self.kind in ("conv", "resconv", "strided", "signal")

    def _drawn(self, draw: random.Random, seed: int) -> Cell:
        return Cell(
            family=self.name,
            kind=self.kind,
            data="digits" if self.convolves else draw.choice(self.data),
            depth=draw.choice(self.depths),
            width=draw.choice((8, 12, 16, 24, 32) if self.convolves else self.widths),
            activation=draw.choice(self.activations),
            init=draw.choice(self.inits),
            norm=draw.choice(self.norms),
            dropout=draw.choice(self.dropouts),
            trap=draw.choice(self.traps),
            scale=draw.choice(self.scales),
            shift=draw.choice(self.shifts),
            seed=seed,
        )


CONV_DEPTHS = (2, 4, 6, 10, 14, 20)
MANY = ("relu", "leaky", "gelu", "silu", "tanh", "sigmoid", "selu", "softplus")
