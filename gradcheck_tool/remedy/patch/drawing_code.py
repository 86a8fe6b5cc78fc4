"""New weights → the lines of Python that draw them, as a person would write them: a statement for one layer, a loop
for those of one kind, with a table of gains where these differ.

The lines draw what `remedy.drawing.draw` draws: orthogonal weights with `nn.init.orthogonal_`, which are divided by the
larger side of the matrix, not by the fan-in, so that a layer with more outputs than inputs needs a factor; normal ones
where torch has no orthogonal form for the layout (transposed convolutions), or the matrix is too large for one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradcheck_tool.remedy.drawing import LARGEST_ORTHOGONAL, Scheme
from gradcheck_tool.remedy.layers import Layout
from gradcheck_tool.remedy.patch.names import free
from gradcheck_tool.remedy.patch.pieces import Piece, named, sliced
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.styling import Style, factor, number, wrapped

WHY = "# at the critical gain of the activations a gradient keeps its norm"
_MANY_RUNS, _MOST_RUNS = 3, 8
_OF_A_ROW = 0.15
"""Relative difference of gains that follow each other in a table; that of a head is another, whatever the depth."""


@dataclass(frozen=True)
class Draw:
    """New values for the parameter `weight`, of `shape` and `layout`, at `gain` (σ_w), and for `bias`, where that is
    named: zero, or what takes away inputs of the mean `centre`. `layer` is the module that has both as `weight` and
    `bias`; None where there is none, as for the operands of `x @ W + b`: `spelled` has the expressions of the two."""

    layer: str | None
    weight: str
    bias: str | None
    gain: float
    centre: float
    scheme: Scheme
    layout: Layout
    shape: tuple[int, ...]
    spelled: tuple[str, str] = ("", "")
    has_features: bool = False
    """Whether `layer` has `in_features` and `out_features`."""
    mixed: bool = False
    """Whether its lines are for layers of which some have more outputs than inputs and some have not."""

    @property
    def sides(self) -> tuple[int, int]:
        """Outputs per group, fan-in."""
        inputs, outputs = (self.shape[0], self.shape[1]) if self.layout.flipped else (self.shape[1], self.shape[0])
        taps = math.prod(self.shape[2:])
        groups = self.layout.groups
        return (outputs, inputs // groups * taps) if self.layout.flipped else (outputs // groups, inputs * taps)

    @property
    def second_moment(self) -> float:
        """E[w²]."""
        return self.gain**2 / (self.sides[1] * self.layout.taps)

    @property
    def is_orthogonal(self) -> bool:
        """Whether the lines draw an orthogonal matrix."""
        transposed = self.layout.flipped and len(self.shape) > 2
        return self.scheme == "orthogonal" and min(self.sides) <= LARGEST_ORTHOGONAL and not transposed

    @property
    def form(self) -> tuple[object, ...]:
        """What two draws have in common that one loop can make, but for their gains."""
        outputs, fan_in = self.sides
        widens = self.is_orthogonal and outputs > fan_in
        std = None if self.is_orthogonal or not self.layout.flipped else self.second_moment
        grouped = self.layout.groups > 1
        biased = "none" if self.bias is None else "centred" if self.centre else "zero"
        widens = widens or (self.mixed and self.is_orthogonal)
        sized = self.has_features if widens else None
        shaped = len(self.shape) > 2 if self.bias is not None and self.centre else None
        return (self.is_orthogonal, self.layout.flipped, grouped, widens, std, biased, sized, shaped)


def code(pieces: Sequence[Piece[Draw]], style: Style) -> list[str]:
    """The lines, without the indentation of the place where they go.

    Args:
        pieces: the layers, by the expressions that give them.
        style: of the file.

    Raises:
        Refused: no few lines say it.
    """
    centred = any(draw.centre for piece in pieces for draw in piece.items)
    lines = [WHY + ("; the biases take their mean away" if centred else "")]
    whole: list[Piece[Draw]] = []
    for piece in pieces:
        inline = piece.is_whole and len(_runs([piece])) == 1 and is_constant(piece.items)
        if piece.walk is None or inline:
            whole.append(piece)
            continue
        used = {other.base for other in whole}
        variable = free(style.name("layers"), used.__contains__)
        lines += wrapped(f"{variable} = {piece.base}", style)
        whole.append(named(piece, variable))
    runs = _runs(whole)
    if len(runs) > _MANY_RUNS:
        mixed = [replace(piece, items=tuple(replace(draw, mixed=True) for draw in piece.items)) for piece in whole]
        runs = min(runs, _runs(mixed), key=len)
    if len(runs) > _MOST_RUNS:
        raise Refused(f"the new weights are of {len(runs)} forms in turn, which no few lines say")
    for run in runs:
        lines += _run(run, style)
    return lines


def _runs(pieces: Sequence[Piece[Draw]]) -> list[list[Piece[Draw]]]:
    """The pieces, cut where the form changes, and in front of a head, whose gain is none of a row."""
    draws = [draw for piece in pieces for draw in piece.items]
    last = draws[-1]
    headed = len(draws) > 2 and abs(last.gain / draws[-2].gain - 1.0) > _OF_A_ROW
    runs: list[list[Piece[Draw]]] = []
    for piece in pieces:
        start = 0
        for end in range(1, len(piece.items) + 1):
            following = piece.items[end] if end < len(piece.items) else None
            if (
                following is not None
                and following.form == piece.items[start].form
                and not (headed and following is last)
            ):
                continue
            part = sliced(piece, start, end)
            first = part.items[0]
            if runs and runs[-1][0].items[0].form == first.form and not (headed and first is last):
                runs[-1].append(part)
            else:
                runs.append([part])
            start = end
    return [part for run in runs for part in _cut(run)]


def _cut(run: list[Piece[Draw]]) -> list[list[Piece[Draw]]]:
    """A run, or its parts: what is walked through in place, and a single first layer in front of others of one gain."""
    if any(piece.walk for piece in run):
        return [[piece] for piece in run]
    draws = [draw for piece in run for draw in piece.items]
    alone = len(run) > 1 and not run[0].is_list and len(draws) > 2
    if alone and number(draws[0].gain) != number(draws[1].gain) and is_constant(draws[1:]):
        return [run[:1], run[1:]]
    return [run]


def is_constant(draws: Sequence[Draw]) -> bool:
    """Whether all have one gain, as the code spells it, and take one mean away."""
    return len({(number(draw.gain), number(draw.centre)) for draw in draws}) == 1


def _run(run: Sequence[Piece[Draw]], style: Style) -> list[str]:
    draws = [draw for piece in run for draw in piece.items]
    first = draws[0]
    if len(draws) == 1:
        return _statements(replace(first, mixed=False), run[0].single, number(first.gain), number(first.centre), style)
    if any(draw.layer is None for draw in draws):
        return [line for piece in run for line in _run([piece], style)]
    walk = run[0].walk
    if walk is not None:  # whole, and of one gain
        head = [f"for {walk.variable} in {walk.iterable}:"]
        head += [f"{style.indent}if {walk.condition}:"] if walk.condition else []
        layer = f"{walk.variable}{walk.suffix}"
        body = _statements(first, layer, number(first.gain), number(first.centre), style)
        return [*head, *(style.indent * len(head) + line for line in body)]
    layer, at = style.name("layer"), style.name("i")
    singles = not any(piece.is_list for piece in run) and len({number(draw.centre) for draw in draws}) == 1
    before: list[str] = []
    if singles and not is_constant(draws):
        gain, centre = style.name("gain"), number(first.centre)
        pairs = [f"({piece.text}, {number(piece.items[0].gain)})" for piece in run]
        head = wrapped(f"for {layer}, {gain} in ({', '.join(pairs)}):", style)
    else:
        gain, indexed = _varying([draw.gain for draw in draws], at, style.name("gains"), before, style)
        centre, also = _varying([draw.centre for draw in draws], at, style.name("means"), before, style)
        walked = _joined(run)
        counts = indexed or also
        head = wrapped(f"for {at}, {layer} in enumerate({walked}):" if counts else f"for {layer} in {walked}:", style)
    body = _statements(first, layer, gain, centre, style)
    return [*before, *head, *(style.indent + line for line in body)]


def _varying(values: Sequence[float], at: str, variable: str, before: list[str], style: Style) -> tuple[str, bool]:
    """An expression of the value for the layer number `at`, and whether it needs that number. A table goes into
    `before`; the last value in it holds for all layers behind, as gains converge, so that the code is right at other
    depths too."""
    numbers = list(map(number, values))
    while len(numbers) > 1 and numbers[-1] == numbers[-2]:
        numbers.pop()
    if len(numbers) == 1:
        return numbers[0], False
    if len(numbers) == 2:
        return f"{numbers[1]} if {at} else {numbers[0]}", True
    before += wrapped(f"{variable} = [{', '.join(numbers)}]", style)
    return f"{variable}[min({at}, {len(numbers) - 1})]", True


def _joined(run: Sequence[Piece[Draw]]) -> str:
    if len(run) == 1:
        return run[0].text
    return f"({', '.join(f'*{piece.text}' if piece.is_list else piece.text for piece in run)})"


def _statements(draw: Draw, layer: str, gain: str, centre: str, style: Style) -> list[str]:
    """What draws the weight and the bias of one layer, or of each in a loop."""
    weight, bias = (f"{layer}.weight", f"{layer}.bias") if draw.layer is not None else draw.spelled
    lines = (
        _normal(draw, weight, gain, style) if not draw.is_orthogonal else _orthogonal(draw, layer, weight, gain, style)
    )
    if draw.bias is not None:
        lines.append(f"{style.init}.zeros_({bias})" if not draw.centre else _centred(draw, weight, bias, centre))
    return lines


def _normal(draw: Draw, weight: str, gain: str, style: Style) -> list[str]:
    std = f"{math.sqrt(draw.second_moment):.4g}"
    if not draw.layout.flipped:
        std = f"{factor(gain)} / {weight}[0].numel() ** 0.5" if gain != "1.0" else f"{weight}[0].numel() ** -0.5"
    return [f"{style.init}.normal_({weight}, std={std})"]


def _orthogonal(draw: Draw, layer: str, weight: str, gain: str, style: Style) -> list[str]:
    groups = draw.layout.groups
    target = style.name("part") if groups > 1 else weight
    outputs, fan_in = draw.sides
    if outputs > fan_in or draw.mixed:
        ratio = (
            f"{target}[0].numel() / len({target})" if draw.layout.flipped else f"len({target}) / {target}[0].numel()"
        )
        ratio = f"{layer}.out_features / {layer}.in_features" if draw.has_features else ratio
        scale = f"max(1, {ratio}) ** 0.5" if draw.mixed else f"({ratio}) ** 0.5"
        gain = scale if gain == "1.0" else f"{factor(gain)} * {scale}"
    drawn = (
        f"{style.init}.orthogonal_({target})" if gain == "1.0" else f"{style.init}.orthogonal_({target}, gain={gain})"
    )
    lines = [drawn]
    if len(drawn) > style.width - 2 * len(style.indent):
        variable = style.name("gain")
        lines = [f"{variable} = {gain}", f"{style.init}.orthogonal_({target}, {variable})"]
    if groups == 1:
        return lines
    number = f"{layer}.groups" if draw.layer is not None else str(groups)
    return [f"for {target} in {weight}.data.chunk({number}):", *(style.indent + line for line in lines)]


def _centred(draw: Draw, weight: str, bias: str, centre: str) -> str:
    if not draw.layout.flipped:
        total = f"{weight}.data.sum(1)" if len(draw.shape) == 2 else f"{weight}.data.flatten(1).sum(1)"
    elif len(draw.shape) == 2:
        total = f"{weight}.data.sum(0)"
    elif draw.layout.groups == 1 and draw.layout.taps == 1:
        total = f"{weight}.data.transpose(0, 1).flatten(1).sum(1)"
    else:
        raise Refused("biases that centre a transposed convolution of several groups or strides need more lines")
    negative = centre[1:] if centre.startswith("-") else f"-{factor(centre)}"
    return f"{bias}.data.copy_({negative} * {total})"
