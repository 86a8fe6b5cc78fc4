"""Which nets are trained: families of like nets, of each a dozen drawn at random, with seeds that never change.

Thresholds are chosen on the families that are not kept out; what is reported of verdicts and remedies is what they do
on those that are. Which half a family is in was fixed before anything was trained.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ground_truth.nets import Cell

PER_FAMILY = 8
COST_LIMIT = 2e6
"""depth · width² · positions of a net: what can be trained a thousand times on one core."""

INITS = ("default", "glorot", "he", "orthogonal", "he/10", "he/3", "he*3", "normal0.01", "normal1")
SOUND = ("default", "glorot", "he", "orthogonal")
DEPTHS = (2, 3, 5, 8, 12, 20, 30, 40)
WIDTHS = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Family:
    """What the cells of a family are drawn from. A family is kept out, or thresholds may be chosen on it."""

    name: str
    kept_out: bool
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
        draw = random.Random(f"trainability {self.name}")
        found: dict[str, Cell] = {}
        while len(found) < PER_FAMILY:
            cell = self._drawn(draw, seed=len(found))
            positions = 40 if "conv" in self.kind else 1
            layers = cell.depth * (2 if self.kind.startswith("res") else 1)
            if layers * cell.width**2 * positions <= COST_LIMIT:
                found.setdefault(cell.name, cell)
        return list(found.values())

    def _drawn(self, draw: random.Random, seed: int) -> Cell:
        conv = "conv" in self.kind
        return Cell(
            family=self.name,
            kind=self.kind,
            data="digits" if conv else draw.choice(self.data),
            depth=draw.choice(self.depths),
            width=draw.choice((8, 12, 16, 24, 32) if conv else self.widths),
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
FAMILIES = (
    Family("relu mlp", False, activations=["relu"]),
    Family("leaky relu mlp", True, activations=["leaky"]),
    Family("tanh mlp", False, activations=["tanh"]),
    Family("selu mlp", True, activations=["selu"]),
    Family("softplus mlp", False, activations=["softplus"]),
    Family("sigmoid mlp", True, activations=["sigmoid"]),
    Family("silu mlp", False, activations=["silu"]),
    Family("gelu mlp", True, activations=["gelu"]),
    Family("exp mlp, few blocks", False, activations=["exp"], depths=(1, 2, 3, 4, 6)),
    Family("exp conv", True, "conv", activations=["exp"], depths=(1, 2, 3, 4)),
    Family("relu conv", False, "conv", activations=["relu"], depths=CONV_DEPTHS),
    Family("gelu and leaky relu conv", True, "conv", activations=["gelu", "leaky"], depths=CONV_DEPTHS),
    Family("sigmoid conv", False, "conv", activations=["sigmoid"], depths=CONV_DEPTHS),
    Family("tanh and selu conv", True, "conv", activations=["tanh", "selu"], depths=CONV_DEPTHS),
    Family("residual mlp", False, "resmlp", activations=MANY, depths=(2, 4, 8, 16)),
    Family("residual conv", True, "resconv", activations=MANY, depths=(2, 3, 5, 8)),
    Family("residual conv with norm", False, "resconv", activations=MANY, depths=(2, 3, 5, 8), norms=("bn", "gn")),
    Family(
        "residual mlp with norm", True, "resmlp", activations=MANY, depths=(2, 4, 8, 16), norms=("bn", "ln", "rms")
    ),
    Family("mlp with batch norm", False, activations=MANY, norms=["bn"]),
    Family("conv with batch norm", True, "conv", activations=MANY, norms=["bn"], depths=CONV_DEPTHS),
    Family("conv with layer or group norm", False, "conv", activations=MANY, norms=("ln", "gn"), depths=CONV_DEPTHS),
    Family("mlp with layer or rms norm", True, activations=MANY, norms=("ln", "rms")),
    Family("mlp with dropout", False, activations=MANY, inits=SOUND, dropouts=(0.1, 0.3, 0.5)),
    Family("conv with dropout", True, "conv", activations=MANY, inits=SOUND, dropouts=(0.1, 0.3), depths=CONV_DEPTHS),
    Family(
        "conv with biases", False, "conv", activations=("relu", "tanh", "leaky", "gelu"), inits=SOUND,
        depths=(2, 3, 4, 6, 10), traps=("biases -1", "biases -10", "biases +10", "first biases -3"),
    ),
    Family(
        "mlp with biases", True, activations=("relu", "tanh", "silu", "sigmoid"), inits=SOUND, depths=(2, 3, 5, 8, 12),
        traps=("biases -1", "biases -10", "biases +1", "biases +10", "one layer's biases -100", "first biases -3"),
    ),
    Family(
        "mlp with zero or constant head", False, activations=MANY, inits=SOUND, depths=(2, 3, 5, 8, 12),
        traps=("zero head", "constant head"),
    ),
    Family(
        "conv with zero or constant head", True, "conv", activations=MANY, inits=SOUND, depths=(2, 4, 6, 10),
        traps=("zero head", "constant head"),
    ),
    Family("constant conv", False, "conv", activations=MANY, inits=("constant", "zero", "he*10"), depths=(1, 2, 4, 8)),
    Family("constant mlp", True, activations=MANY, inits=("constant", "zero", "he*10"), depths=(2, 3, 5, 8, 12, 20)),
    Family(
        "conv on inputs of another scale", False, "conv", activations=MANY, inits=SOUND, depths=(2, 4, 6, 10),
        scales=(1e-4, 1e-2, 100.0, 1e4), shifts=(0.0, 0.0, 100.0),
    ),
    Family(
        "mlp on inputs of another scale", True, activations=MANY, inits=SOUND, depths=(2, 3, 5, 8, 12),
        scales=(1e-4, 1e-2, 100.0, 1e4), shifts=(0.0, 0.0, 100.0),
    ),
)  # fmt: skip


def all_cells() -> list[Cell]:
    """Every cell, family by family."""
    return [cell for family in FAMILIES for cell in family.cells()]


def kept_out(cell: Cell) -> bool:
    """Whether thresholds must not be chosen on this cell."""
    return next(family.kept_out for family in FAMILIES if family.name == cell.family)
