"""Which nets are trained: families of like nets, of each eight, and seven times three to eight more, drawn later.

Thresholds were chosen on the families of this file, changed when those of unseen.py had been seen too, and again when
each of the later groups had been. What is reported of verdicts and remedies is what they do on the cells drawn last, of
all families, which were drawn and trained when the rules were finished.
"""

from __future__ import annotations

from ground_truth.blocks import Cell
from ground_truth.family import CONV_DEPTHS, DRAWS, MANY, SOUND, Family
from ground_truth.unseen import UNSEEN

SEEN = (
    Family("relu mlp", activations=["relu"]),
    Family("leaky relu mlp", activations=["leaky"]),
    Family("tanh mlp", activations=["tanh"]),
    Family("selu mlp", activations=["selu"]),
    Family("softplus mlp", activations=["softplus"]),
    Family("sigmoid mlp", activations=["sigmoid"]),
    Family("silu mlp", activations=["silu"]),
    Family("gelu mlp", activations=["gelu"]),
    Family("exp mlp, few blocks", activations=["exp"], depths=(1, 2, 3, 4, 6)),
    Family("exp conv", "conv", activations=["exp"], depths=(1, 2, 3, 4)),
    Family("relu conv", "conv", activations=["relu"], depths=CONV_DEPTHS),
    Family("gelu and leaky relu conv", "conv", activations=["gelu", "leaky"], depths=CONV_DEPTHS),
    Family("sigmoid conv", "conv", activations=["sigmoid"], depths=CONV_DEPTHS),
    Family("tanh and selu conv", "conv", activations=["tanh", "selu"], depths=CONV_DEPTHS),
    Family("residual mlp", "resmlp", activations=MANY, depths=(2, 4, 8, 16)),
    Family("residual conv", "resconv", activations=MANY, depths=(2, 3, 5, 8)),
    Family("residual conv with norm", "resconv", activations=MANY, depths=(2, 3, 5, 8), norms=("bn", "gn")),
    Family(
        "residual mlp with norm", "resmlp", activations=MANY, depths=(2, 4, 8, 16), norms=("bn", "ln", "rms")
    ),
    Family("mlp with batch norm", activations=MANY, norms=["bn"]),
    Family("conv with batch norm", "conv", activations=MANY, norms=["bn"], depths=CONV_DEPTHS),
    Family("conv with layer or group norm", "conv", activations=MANY, norms=("ln", "gn"), depths=CONV_DEPTHS),
    Family("mlp with layer or rms norm", activations=MANY, norms=("ln", "rms")),
    Family("mlp with dropout", activations=MANY, inits=SOUND, dropouts=(0.1, 0.3, 0.5)),
    Family("conv with dropout", "conv", activations=MANY, inits=SOUND, dropouts=(0.1, 0.3), depths=CONV_DEPTHS),
    Family(
        "conv with biases", "conv", activations=("relu", "tanh", "leaky", "gelu"), inits=SOUND,
        depths=(2, 3, 4, 6, 10), traps=("biases -1", "biases -10", "biases +10", "first biases -3"),
    ),
    Family(
        "mlp with biases", activations=("relu", "tanh", "silu", "sigmoid"), inits=SOUND, depths=(2, 3, 5, 8, 12),
        traps=("biases -1", "biases -10", "biases +1", "biases +10", "one layer's biases -100", "first biases -3"),
    ),
    Family(
        "mlp with zero or constant head", activations=MANY, inits=SOUND, depths=(2, 3, 5, 8, 12),
        traps=("zero head", "constant head"),
    ),
    Family(
        "conv with zero or constant head", "conv", activations=MANY, inits=SOUND, depths=(2, 4, 6, 10),
        traps=("zero head", "constant head"),
    ),
    Family("constant conv", "conv", activations=MANY, inits=("constant", "zero", "he*10"), depths=(1, 2, 4, 8)),
    Family("constant mlp", activations=MANY, inits=("constant", "zero", "he*10"), depths=(2, 3, 5, 8, 12, 20)),
    Family(
        "conv on inputs of another scale", "conv", activations=MANY, inits=SOUND, depths=(2, 4, 6, 10),
        scales=(1e-4, 1e-2, 100.0, 1e4), shifts=(0.0, 0.0, 100.0),
    ),
    Family(
        "mlp on inputs of another scale", activations=MANY, inits=SOUND, depths=(2, 3, 5, 8, 12),
        scales=(1e-4, 1e-2, 100.0, 1e4), shifts=(0.0, 0.0, 100.0),
    ),
)  # fmt: skip
FAMILIES = (*SEEN, *UNSEEN)


def all_cells() -> list[Cell]:
    """Every cell, family by family; those drawn later at the end."""
    return [cell for drawn in DRAWS for family in FAMILIES for cell in family.cells(drawn)]


GROUPS = ("first half", "second half", *(drawn.group for drawn in DRAWS[1:]))
_SECOND = {family.name for family in UNSEEN}


def group_of(cell: Cell) -> str:
    """Which of the `GROUPS` a cell belongs to."""
    drawn = [draw for draw in DRAWS if draw.seed <= cell.seed][-1]
    if drawn is DRAWS[0]:
        return GROUPS[1] if cell.family in _SECOND else GROUPS[0]
    return drawn.group
