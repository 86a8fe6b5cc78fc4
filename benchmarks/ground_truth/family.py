"""A family of like nets: what its cells are drawn from, at random, with seeds that never change."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ground_truth.blocks import Cell

PER_FAMILY = 8
THIRD, FOURTH, FIFTH, LAST = 100, 200, 300, 400
"""The seeds from which on the cells are those drawn third, fourth, fifth and last."""

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

    def cells(self) -> list[Cell]:
        """The family's cells; equal at each call, and unaffected by other families."""
        return self._cells(f"trainability {self.name}", 0, PER_FAMILY)

    def third_cells(self) -> list[Cell]:
        """More of them, which were drawn when the thresholds had been chosen on the others, for the first time."""
        return self._cells(f"trainability, last {self.name}", THIRD, 3)

    def fourth_cells(self) -> list[Cell]:
        """More of them, which were drawn when the thresholds had been changed once more."""
        return self._cells(f"trainability, fourth {self.name}", FOURTH, 3)

    def fifth_cells(self) -> list[Cell]:
        """More of them, on which those thresholds failed: the rules were changed after that."""
        return self._cells(f"trainability, fifth {self.name}", FIFTH, 4)

    def last_cells(self) -> list[Cell]:
        """More of them, which were drawn when everything else was done."""
        return self._cells(f"trainability, sixth {self.name}", LAST, 4)

    def _cells(self, name: str, seed: int, count: int) -> list[Cell]:
        draw = random.Random(name)
        found: dict[str, Cell] = {}
        while len(found) < count:
            cell = self._drawn(draw, seed=seed + len(found))
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
