"""Weights drawn anew, at the gain that suits the activation in front of them, with zero biases.

Only layers whose weights are not what they should be are drawn; a chain through which the theory lets the gradient pass
is left alone. The gains: remedy/gains.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, location_of
from gradcheck_tool.forecast import Forecaster
from gradcheck_tool.forecast.layers import LayerReader, NoForecast
from gradcheck_tool.remedy.base import Case, Plan
from gradcheck_tool.remedy.drawing import SCHEMES, Scheme, draw
from gradcheck_tool.remedy.gains import SOUND_DECADES, SOUND_RANGE, Gain, critical_gains
from gradcheck_tool.remedy.layers import (
    WeightLayers,
    call_named,
    calls_of,
    layout_of,
    replace_parameter,
    shared_copy,
)
from gradcheck_tool.remedy.recurrences import STEPPED_GAIN, faults_of_steps
from gradcheck_tool.results import Location, Skip
from gradcheck_tool.theory import Weights
from gradcheck_tool.theory.weight_statistics import objection

TOLERANCE = 0.1
"""The relative deviation of E[w²] up to which a weight is as wished; where it has few elements, four standard
errors."""
BIAS_LIMIT = 0.1
"""E[b²] over the second moment of the pre-activations up to which biases are small. PyTorch's default has 1 / (3
fan_in)."""
DOMINATING_BIAS = 3.0
"""E[b²] over the second moment of the rest of the pre-activations, from which a layer is broken at any depth: at a bias
of −3 standard deviations a ReLU is open for 0.1 % of its inputs."""
BROKEN_GAIN = 100.0
"""The factor by which σ_w² may be too large in a net of any depth: a single layer then multiplies by 10."""


@dataclass(frozen=True)
class Reinitialization:
    """New weights for the layer of one call: `gain` is σ_w = √(n E[w²]). `bias` names the parameter that becomes zero,
    or where `centre` is not 0 takes away what inputs of that mean contribute."""

    layer: str
    parameter: str
    gain: float
    scheme: Scheme
    bias: str | None
    centre: float
    location: Location | None
    why: str

    def __str__(self) -> str:
        biases = f", biases that take away an input mean of {self.centre:.3g}" if self.centre else ", zero biases"
        return f"{self.layer}: {self.scheme} weights of gain {self.gain:.3g}{biases if self.bias else ''} ({self.why})"


@dataclass(frozen=True)
class Reinitialize:
    """The remedy `reinit`.

    Args:
        scheme: how weights are drawn.
        seed: of the draw; the global random state is not touched.
        odd_sizes: whether weights that are far from the size which suits most functions are drawn anew however well
            their chain passes the gradient; at gain 1 where none is critical. A chain of these passes no gradient for
            that; something else has to keep the signal, as shortcuts and norms do.
    """

    scheme: Scheme = "orthogonal"
    seed: int = 0
    odd_sizes: bool = False
    name: str = "reinit"
    title: str = "weights drawn anew, at the gain of their activation"
    breaks: tuple[str, ...] = (
        "The weights of the layers drawn anew are lost: a checkpoint, or pretrained weights, are of no use any more.",
        "The chain is critical at the start of training only; nothing holds it there, as a norm would.",
    )

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"no scheme {self.scheme}; there are {', '.join(SCHEMES)}")

    def plan(self, case: Case) -> Plan:
        """The layers whose weights are to be drawn anew."""
        return Planner(case, self.scheme, self.odd_sizes).plan()

    def apply(self, captured: CapturedModule, plan: Plan, case: Case) -> CapturedModule:
        """A copy of `captured` with new parameters for the layers of the plan.

        Raises:
            KeyError: the plan names a layer that the graph does not have.
        """
        fixed = shared_copy(captured)
        calls = calls_of(fixed)
        for step in plan.steps:
            assert isinstance(step, Reinitialization)
            call = call_named(step.layer, calls)[0]
            redraw(fixed, call, step.parameter, step.bias, step.gain, step.scheme, step.centre, self.seed)
        return fixed


def redraw(
    model: nn.Module,
    call: Call,
    parameter: str,
    bias: str | None,
    gain: float,
    scheme: Scheme,
    centre: float = 0.0,
    seed: int = 0,
) -> None:
    """Gives the layer of a call a new weight, and where it has one a new bias: −centre · Σ w, 0 for centred inputs."""
    weight = model.get_parameter(parameter)
    layout = layout_of(call, model)
    if isinstance(layout, str):
        raise KeyError(f"{call.name} is not what it was: {layout}")
    drawn = draw(weight, layout, gain, scheme, call.layer, seed)
    replace_parameter(model, parameter, drawn)
    if bias is not None:
        value = torch.zeros(model.get_parameter(bias).shape, dtype=drawn.dtype)
        if centre:
            value -= (centre * layout.taps * layout.matrices(drawn).sum(-1).flatten()).expand_as(value)
        replace_parameter(model, bias, value)


class Planner:
    """Which layers of one case are to be drawn anew, at which gain and why."""

    def __init__(self, case: Case, scheme: Scheme, odd_sizes: bool = False) -> None:
        self.case, self.scheme, self.odd_sizes = case, scheme, odd_sizes
        self.structure, self.model = case.structure, case.model
        self.layers = WeightLayers(case.structure, case.model)
        self.blocks = {block.call: block for block in case.structure.blocks}
        self.biases = {
            call: self.layers.bias(call, self.blocks[call].inside if call in self.blocks else ())
            for call in self.structure.calls
        }
        self._reader = LayerReader(case.model)
        self._weights: dict[Call, Weights | None] = {}

    def plan(self) -> Plan:
        """In the order in which the calls ran."""
        gains = critical_gains(
            self.structure, self.model, {call: bias is not None for call, bias in self.biases.items()}
        )
        unsound = self._unsound_chains()
        stepped = faults_of_steps(self.structure, gains, self.weights)
        steps: list[Reinitialization] = []
        skipped: list[Skip] = []
        for call in self.layers.first_calls():
            gain: Gain | str | None = gains.get(call)
            odd = self.odd_sizes and self._has_odd_size(call)
            if isinstance(gain, str) and odd:
                gain = Gain(1.0)
            why = stepped.get(call.layer)
            if why is not None:
                gain, reason = Gain(STEPPED_GAIN**2), self.layers.objection_to_another(call)
            elif stepped and call.layer in self.structure.recurrent:
                continue  # what is beside a state that is drawn anew, and large enough for it
            else:
                why, reason = self._fault(call, gain, odd or call in unsound), self.layers.objection(call)
            if why is None:
                continue
            if reason is None and isinstance(gain, str):
                reason = gain
            if reason is not None:
                skipped.append(Skip(call.name, reason))
                continue
            steps.append(self._step(call, gain if isinstance(gain, Gain) else Gain(1.0), why))
        if steps:
            steps += [self._step(call, Gain(1.0), why) for call, why in self._heads({step.layer for step in steps})]
        order = {call.name: index for index, call in enumerate(self.structure.calls)}
        steps.sort(key=lambda step: order[step.layer])
        return Plan(tuple(steps), tuple(skipped))

    def _step(self, call: Call, gain: Gain, why: str) -> Reinitialization:
        bias = self.biases[call]
        centre = gain.centre if bias is not None else 0.0
        where = location_of(call, self.case.births)
        size = math.sqrt(gain.squared)
        return Reinitialization(call.name, call.parameter, size, self.scheme, bias, centre, where, why)

    def _unsound_chains(self) -> set[Call]:
        """The calls in chains of `min_depth` that the gradient is not known to pass, with those between their
        blocks."""
        forecaster = Forecaster(self.model, self.structure)
        calls = {call.node: call for call in self.structure.calls}
        found: set[Call] = set()
        for chain in self.structure.chains:
            if len(chain) < self.case.min_depth:
                continue
            decades = forecaster.predict(chain).decades
            if decades is None or not abs(decades) < SOUND_DECADES:
                for block in chain:
                    found.add(block.call)
                    found.update(calls[node] for node in block.path if node in calls)
        return found

    def weights(self, call: Call) -> Weights | None:
        """The statistics of a call's weight and bias; None where they cannot be read."""
        if call not in self._weights:
            parameter = self.layers.weight(call)
            bias = self.biases[call]
            try:
                readable = parameter is not None and not parameter.is_meta and parameter.dim() > 1
                added = self.layers.parameters[bias] if bias is not None and call.module is None else None
                self._weights[call] = self._reader.weights_of(call, added) if readable else None
            except (NoForecast, KeyError):
                self._weights[call] = None
        return self._weights[call]

    # -- what is wrong with a layer -----------------------------------------------------------------------------------

    def _fault(self, call: Call, gain: Gain | str | None, unsound: bool) -> str | None:
        """What is wrong with a layer's weights; None where they are sound, or nobody knows."""
        weights = self.weights(call)
        if weights is None:
            return "its chain passes no gradient" if unsound else None
        broken = self._broken(call, weights)
        if broken is not None or not isinstance(gain, Gain):
            return broken or ("its chain passes no gradient" if unsound and isinstance(gain, str) else None)
        now = weights.gain_squared
        if now > BROKEN_GAIN * gain.squared:
            return f"its gain was {math.sqrt(now):.3g}"
        if not unsound:
            return None
        parameter = self.layers.weight(call)
        count = parameter.numel() if parameter is not None else 1
        if abs(now / gain.squared - 1.0) > max(TOLERANCE, 4.0 * math.sqrt(2.0 / count)):
            return f"its gain was {math.sqrt(now):.3g}"
        reason = objection(replace(weights, effective_fan_in=None))  # the identity and its like pass gradients on
        if reason is not None:
            return f"it had {reason}"
        if weights.bias_second_moment > BIAS_LIMIT or (gain.centre and self.biases[call] is not None):
            return "its biases were not centred"
        return None

    def _broken(self, call: Call, weights: Weights) -> str | None:
        """What makes a layer useless at any depth."""
        if not math.isfinite(weights.second_moment) or not math.isfinite(weights.bias_second_moment):
            return "it had values that are not finite"
        block = self.blocks.get(call)
        if weights.second_moment == 0.0:  # a head or the end of a branch may well start at zero
            return "its weights were all zero" if block is not None else None
        if self._has_equal_units(call) and not self.layers.feeds_output_alone(call):
            return "its units all computed the same"
        rest = weights.gain_squared
        if block is not None and weights.bias_second_moment > DOMINATING_BIAS * max(rest, 1.0):
            return f"its biases, of root mean square {math.sqrt(weights.bias_second_moment):.3g}, drowned its inputs"
        return None

    def _has_equal_units(self, call: Call) -> bool:
        """Whether all outputs of a layer have the same weights, so that they get the same gradients for ever."""
        layout = layout_of(call, self.model)
        weight = self.layers.weight(call)
        if isinstance(layout, str) or weight is None:
            return False
        matrices = layout.matrices(weight.detach())
        if matrices.shape[1] < 2 or matrices.shape[2] < 2:
            return False
        return bool((matrices == matrices[:, :1]).all())

    def _has_odd_size(self, call: Call) -> bool:
        """Whether a layer's weights are far from the size that suits most functions behind it, and not all zero."""
        weights = self.weights(call)
        least, most = SOUND_RANGE
        return weights is not None and weights.second_moment > 0.0 and not least <= weights.gain_squared <= most

    # -- heads --------------------------------------------------------------------------------------------------------

    def _heads(self, planned: Collection[str]) -> Iterator[tuple[Call, str]]:
        """Layers that give the model's output, behind blocks that are drawn anew, whose own gain is far off."""
        for call in self.layers.first_calls():
            if call.name in planned or call in self.blocks or not self.layers.feeds_output_alone(call):
                continue
            weights = self.weights(call)
            if weights is not None and self._has_odd_size(call) and self.layers.objection(call) is None:
                yield call, f"its gain was {math.sqrt(weights.gain_squared):.3g}"
