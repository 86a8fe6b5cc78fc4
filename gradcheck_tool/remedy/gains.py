"""The gain that each weight layer should have, by mean-field theory: a structure goes in, a gain for each call comes
out.

With pre-activations z ~ N(0, q) before a layer, the squared norm of the gradient is multiplied on its way back by
σ_w² E[φ'(z)²], σ_w² = n E[w²]. `σ_w² = 1 / E[φ'(z)²]` keeps it, exactly so in every layer, and q goes on as
q' = σ_w² E[φ(z)²] (Schoenholz et al. 2017, eqs. 3 and 14). For ReLU that is He's 2 and q' = q; for LeakyReLU
2 / (1 + a²); for tanh it falls from 2.15 at q = 1 towards 1, the edge of chaos, as q falls towards 0.

Where most of E[φ²] is the square of a mean (sigmoid: 0.85 of it at q = 1), that mean adds a number to each unit of the
next layer which is the same for all samples, and drives it into saturation. Biases b = −E[φ] Σ w take it away again:
the sigmoid is then the tanh net that it would be if it were centred, and q' = σ_w² Var[φ(z)]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from gradcheck_tool.chains import Block, Call, Structure
from gradcheck_tool.forecast.functions import FunctionReader
from gradcheck_tool.forecast.layers import LayerReader, NoForecast
from gradcheck_tool.forecast.passing import PassingReader
from gradcheck_tool.ops import Kind
from gradcheck_tool.theory import Activation, Dropout, Scale
from gradcheck_tool.theory.gaussian import value_and_slope

CENTRE_ABOVE = 0.5
"""The share E[φ]² / E[φ²] from which biases take the mean away. ReLU has 1/π = 0.32 and works as it is: centred, its
gradient would grow by π/(π−1) a layer, as behind batch norm."""

STEEPEST = 1.5
"""d log E[φ²] / d log q beyond which no gain is critical: what one layer is off by, the next multiplies by that power.
ReLU has 1, GELU and SiLU up to 1.2, exp 2 q, a square 2."""

SOUND_DECADES = 1.0
"""What is predicted to change the gradient's norm by less than this, either way, is left alone: below it an audit gives
a note, no warning."""

SOUND_RANGE = (0.1, 4.0)
"""n E[w²] of a layer that is left alone where no gain is critical: a head, a gated unit, what goes into the steps of a
recurrence; 1/3 is PyTorch's default."""

_RANGE, _NODES = 10.0, 20000


@dataclass(frozen=True)
class Moments:
    """E[φ(z)], E[φ(z)²] and E[φ'(z)²] for z ~ N(0, q)."""

    mean: float
    second: float
    slope: float

    @property
    def is_usable(self) -> bool:
        """Whether all are finite and some gradient passes."""
        return all(map(math.isfinite, (self.mean, self.second, self.slope))) and self.slope > 0 and self.second > 0

    @property
    def is_off_centre(self) -> bool:
        """Whether most of the second moment is the mean's."""
        return self.mean**2 > CENTRE_ABOVE * self.second


def moments(activation: Activation, q: float) -> Moments:
    """By the midpoint rule, with no node on 0 where most kinks are; good to 1e-4 with kinks elsewhere. For a gate a ·
    φ(b) a and b ~ N(0, q) are independent."""
    u = (torch.arange(_NODES, dtype=torch.float64) + 0.5) * (2 * _RANGE / _NODES) - _RANGE
    density = torch.exp(-0.5 * u * u)
    density /= density.sum()
    value, slope = value_and_slope(activation.function, u * math.sqrt(q))
    mean, second = float((density * value).sum()), float((density * value.square()).sum())
    slope_second = float((density * slope.square()).sum())
    if activation.gated:
        return Moments(0.0, q * second, second + q * slope_second)
    return Moments(mean, second, slope_second)


@dataclass(frozen=True)
class Gain:
    """What a weight layer should have: `squared` is σ_w² = n E[w²]; `centre` the mean of its inputs that its biases
    take away, 0 where none is to be."""

    squared: float
    centre: float = 0.0


@dataclass(frozen=True)
class _Signal:
    """What goes into the next weight layer: its second moment, its mean, and E[φ'²] since the last layer; `reason`,
    where there is no theory of it."""

    second: float = 1.0
    mean: float = 0.0
    slope: float = 1.0
    reason: str | None = None

    @property
    def gain(self) -> Gain:
        off_centre = self.mean**2 > CENTRE_ABOVE * self.second
        return Gain(1.0 / self.slope, self.mean if off_centre else 0.0)

    def through_layer(self, centred: bool) -> _Signal:
        """What the layer of that gain puts out."""
        gain = self.gain
        return _Signal(gain.squared * (self.second - (gain.centre**2 if centred else 0.0)))


def critical_gains(structure: Structure, model: nn.Module, biased: Mapping[Call, bool]) -> dict[Call, Gain | str]:
    """For every block, and every weight layer between two blocks, the gain at which the gradient's norm is kept; where
    the theory has none, the reason. Inputs of the model are taken to have a second moment of 1.

    Args:
        structure: of the model.
        model: of which the activations' constants are read.
        biased: the calls that have biases, which can take a mean away.
    """
    layers = LayerReader(model)
    functions = FunctionReader(model, structure, layers)
    passing = PassingReader(model, structure.operations, layers)
    calls = {call.node: call for call in structure.calls}
    behind: dict[Block, _Signal] = {}
    found: dict[Call, Gain | str] = {}

    def through(call: Call, signal: _Signal) -> _Signal:
        gain, centred = signal.gain, biased.get(call, False)
        if signal.reason is None and gain.centre and not centred:
            signal = _Signal(reason="its inputs are far from centred, and it has no biases that could centre them")
        found[call] = signal.reason or gain
        return _Signal() if signal.reason else signal.through_layer(centred)

    for block in structure.blocks:
        signal = behind[block.parent] if block.parent is not None else _Signal()
        for node in block.path:
            if node in calls:
                signal = through(calls[node], signal)
            elif structure.operations[node].kind in (Kind.SUM, Kind.CONTRACTION, Kind.ATTENTION) and _joins(node):
                signal = _Signal(slope=signal.slope, reason=signal.reason)  # of other paths nothing is known
            else:
                signal = _scaled(signal, node, passing)
        signal = through(block.call, signal)
        behind[block] = _activated(signal, block, structure, functions)
    return found


def _joins(node: fx.Node) -> bool:
    return sum(part.op != "get_attr" for part in node.all_input_nodes) > 1


def _scaled(signal: _Signal, node: fx.Node, passing: PassingReader) -> _Signal:
    """Through dropout and multiplication by a constant; of pooling and the like second moments are taken as kept."""
    try:
        step = passing.step(node, node.all_input_nodes[0])
    except NoForecast:
        return signal
    factor = step.factor if isinstance(step, Scale) else 1.0 / (1.0 - step.rate) if isinstance(step, Dropout) else 1.0
    if not (factor > 0 and math.isfinite(factor)):
        return signal
    mean = signal.mean
    if isinstance(step, Scale):
        mean *= -math.sqrt(factor) if step.negative else math.sqrt(factor)
    return _Signal(signal.second * factor, mean, signal.slope * factor, signal.reason)


def _activated(signal: _Signal, block: Block, structure: Structure, functions: FunctionReader) -> _Signal:
    try:
        if structure.operations[block.activation].kind is Kind.ACTIVATION:
            activation = functions.named(block.activation)
        else:
            activation = functions.spelled_out(block.call.node, block.activation, block.name)
    except NoForecast as reason:
        return _Signal(reason=str(reason))
    result = moments(activation, signal.second)
    if not result.is_usable:
        return _Signal(reason=f"there is no gain at which the activation {activation.name} passes a gradient on")
    if _steepness(activation, signal.second, result) > STEEPEST:
        return _Signal(reason=f"the activation {activation.name} magnifies any deviation, so that no gain is critical")
    return _Signal(result.second, result.mean, result.slope)


def _steepness(activation: Activation, q: float, at_q: Moments) -> float:
    """d log E[φ²] / d log q."""
    step = 0.1
    further = moments(activation, q * math.exp(step)).second
    return (math.log(further) - math.log(at_q.second)) / step if 0 < further < math.inf else math.inf
