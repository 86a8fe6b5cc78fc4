"""Deep run of weight layers and activations without any normalization.

**What it does**
Finds chains of at least `--min-depth` blocks (a Linear or convolution whose output reaches an activation) with no
normalization, shortcut or other join between them, and says how much the gradient's norm is predicted to change
from the last block back to the first.

**Why is this bad**
On the way back the gradient is multiplied by each layer's weight and by each activation's slope. If their product
is not close to 1 per block, the first layers learn a power of ten slower, or faster, every few blocks: with sigmoid
and PyTorch's default initialization the norm falls 7-fold a block, with ReLU 2.5-fold. (Schoenholz et al. 2017,
Deep Information Propagation.)

**Severity**
By the predicted change of the gradient's norm, or with `--probe` the measured one: `note` below one decade (a
factor of 10) either way, `warning` from there or where nothing is known, `error` from three decades.

**Known problems**
The prediction takes inputs of unit second moment and independent weights around zero. Where the weights are not
like that, or something lies between the blocks for which there is no theory, none is made, and the chain says why.

**Example**
    from torch import nn

    layers = []
    for _ in range(20):
        layers += [nn.Linear(256, 256), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(256, 10))

**Use instead**
    from torch import nn

    layers = []
    for _ in range(20):
        layers += [nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(256, 10))

or an initialization made for the activation, or residual connections. Measure it: `gradtool fix --insert-bn`.

**Fix safety**
Unsafe: batch norm changes what the model computes, makes a sample's output depend on its batch, and in deep plain
chains of ReLU makes the gradient explode (Yang et al. 2019). That is why `fix` probes before and after.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gradcheck_tool.results import Finding, Fix, Severity

if TYPE_CHECKING:
    from gradcheck_tool.chains import Block
    from gradcheck_tool.rules.view import View

CODE = "GT001"
NAME = "unnormalized-chain"

NOTE_BELOW = 1.0
"""Decades: a factor of 10 is what a learning rate is commonly off by, and what an adaptive optimizer makes up for."""
ERROR_FROM = 3.0
"""Decades: AUTOTRAINER's threshold for vanishing gradients, a ratio of 1e-3 (ICSE 2021)."""


def severity_of(decades: float | None) -> Severity:
    """How bad a change of that many decades is; a warning where nothing is known."""
    if decades is None or math.isnan(decades):
        return "warning"
    return "note" if abs(decades) < NOTE_BELOW else "error" if abs(decades) >= ERROR_FROM else "warning"


def check(view: View) -> Iterator[Finding]:
    """One finding for each chain of at least `min_depth` blocks."""
    for blocks, chain in view.chains:
        if chain.depth < view.min_depth:
            continue
        decades = chain.measured_decades if chain.measured_decades is not None else chain.predicted_decades
        steps = _steps(view, blocks)
        yield Finding(
            rule=CODE,
            name=NAME,
            severity=severity_of(decades),
            message=f"{chain.depth} blocks of {_kinds(view, blocks)} in a row without normalization{steps}",
            layers=chain.layers,
            location=view.location_of_call(blocks[0].call),
            fix=Fix("auto" if steps else "insert-bn", "unsafe"),  # between steps `fix` puts no norm
        )


def _kinds(view: View, blocks: Sequence[Block]) -> str:
    """ "Linear → Sigmoid", or several of them, in the order in which they come."""
    kinds = dict.fromkeys(f"{_layer_kind(view, block)} → {block.activation_name}" for block in blocks)
    return " and ".join(kinds) if len(kinds) <= 2 else f"{next(iter(kinds))} and {len(kinds) - 1} other kinds"


def _layer_kind(view: View, block: Block) -> str:
    return view.structure.operations[block.call.node].name


def _steps(view: View, blocks: Sequence[Block]) -> str:
    """How often the layer that is stepped most is stepped, its first step, through another layer, included."""
    layers = [block.call.layer for block in blocks if block.call.layer in view.structure.recurrent]
    if len(layers) < 2:
        return ""
    counts = Counter(layers)
    most = max(counts.values())
    return f", over {most + (counts[layers[0]] < most)} steps"
