"""A net as a graph of steps: second moments forward, squared gradient norms backward, each in one pass.

Where a value is read more than once the squared norms of the gradients that come back add up, as those of independent
gradients do: behind different random weights they are (Schoenholz et al. 2017; Yang and Schoenholz 2017 for residual
nets, where it holds too).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcheck_tool.theory.forward import (
    Gain,
    through_activation,
    through_dropout,
    through_norm,
    through_scale,
    through_shift,
    through_weights,
)
from gradcheck_tool.theory.gaussian import Activation, Array
from gradcheck_tool.theory.joins import through_add, through_concat, through_gate, through_pool, through_upsampling
from gradcheck_tool.theory.moments import Moments, NoPredictionError, inputs
from gradcheck_tool.theory.spatial import Size, gather
from gradcheck_tool.theory.steps import Add, Concat, Dropout, Gate, Norm, Pool, Scale, Shift, Step, Upsample
from gradcheck_tool.theory.weight_statistics import BIAS_MEAN_LIMIT, Unread, Weights, objection


@dataclass(frozen=True)
class Vertex:
    """One step, the numbers of the vertices that it reads, and its name for people. `tied` numbers the weights of a
    Weights step: those that are called again have the number that they had."""

    step: Step
    reads: tuple[int, ...] = ()
    name: str = ""
    tied: int | None = None


INPUT = -1
"""What a vertex reads that reads the net's input; -2, -3 … are further inputs, independent of it."""


@dataclass
class Network:
    """Vertices, each behind those that it reads."""

    vertices: list[Vertex] = field(default_factory=list)

    def add(self, step: Step, *reads: int, name: str = "", tied: int | None = None) -> int:
        """Appends a vertex; returns its number."""
        self.vertices.append(Vertex(step, reads, name, tied))
        return len(self.vertices) - 1

    def without_idle_concatenations(self, kept: Collection[int]) -> tuple[Network, dict[int, int]]:
        """The same net without those concatenations that nothing reads and that are not `kept`; the new numbers of the
        vertices by their old ones."""
        read = set(kept)
        for number in range(len(self.vertices) - 1, -1, -1):
            vertex = self.vertices[number]
            if number in read or not isinstance(vertex.step, Concat):
                read |= {number, *vertex.reads}
        if read.issuperset(range(len(self.vertices))):
            return self, {number: number for number in range(len(self.vertices))}
        result = Network()
        numbers: dict[int, int] = {}
        for number, vertex in enumerate(self.vertices):
            if number in read:
                numbers[number] = len(numbers)
                reads = [numbers.get(source, source) for source in vertex.reads]
                tied = None if vertex.tied is None else numbers[vertex.tied]
                result.add(vertex.step, *reads, name=vertex.name, tied=tied)
        return result, numbers


@dataclass(frozen=True)
class Pass:
    """What a forward pass found: the moments behind each vertex, the gains back to each of what it reads, and the
    variance of the log of the squared gradient norm that each vertex's finite width leaves (Hanin 2018: 2/n a linear
    layer, 5/n a ReLU block)."""

    network: Network
    given: Mapping[int, Moments]
    moments: Sequence[Moments]
    gains: Sequence[Sequence[Sequence[Gain]]]
    variances: Sequence[float]

    def of(self, vertex: int) -> Moments:
        """The moments behind a vertex, or of an input."""
        return self.moments[vertex] if vertex >= 0 else self.given[vertex]


def forward(network: Network, q0: float = 1.0) -> Pass:
    """Second moments through a net whose inputs are independent, with second moment `q0`. Where weights were unread,
    `network` has what was read of them afterwards.

    Raises:
        NoPredictionError: the theory does not hold for one of its steps; the message says why.
    """
    given = {read: inputs(math.log(q0), 1 << -(read + 1)) for v in network.vertices for read in v.reads if read < 0}
    base = len(given)
    result = Pass(network, given, moments := [], gains := [], variances := [])
    noise = np.random.default_rng(0)
    read = {vertex for reader in network.vertices for vertex in reader.reads}
    for number, vertex in enumerate(network.vertices):
        before = [result.of(read) for read in vertex.reads]
        variance = 0.0
        step = vertex.step
        if isinstance(step, Unread):
            step = step.read()
            network.vertices[number] = replace(vertex, step=step)
        if isinstance(step, Weights):
            reason = objection(step)
            if reason is not None:
                raise NoPredictionError(f"{vertex.name} has {reason}")
            bit = 1 << (base + (number if vertex.tied is None else vertex.tied))
            plain, back = through_weights(step, before[0], noise)
            after = Moments(plain.log_q, plain.size, plain.log_delta, sources=bit)
            if number in read:  # where a head's outputs lie is nothing to the gradient
                _check_bias(vertex.name, step, after)
            groups = 1 if step.geometry is None else step.geometry.groups
            variance = (3.0 * before[0].slope_kurtosis - 1.0) / (step.fan_in * groups)
            here: list[list[Gain]] = [back]
        else:
            after, here = _through(step, before)
        moments.append(after)
        gains.append(here)
        variances.append(variance)
    return result


def _through(step: Step, before: Sequence[Moments]) -> tuple[Moments, list[list[Gain]]]:
    if isinstance(step, Add):
        return through_add(step, before)
    if isinstance(step, Gate):
        return through_gate(before)
    if isinstance(step, Concat):
        return through_concat(step, before)
    one = before[0]
    if isinstance(step, Activation):
        after, gain = through_activation(step, one)
    elif isinstance(step, Scale):
        after, gain = through_scale(step, one)
    elif isinstance(step, Dropout):
        after, gain = through_dropout(step, one)
    elif isinstance(step, Shift):
        after, gain = through_shift(step, one)
    elif isinstance(step, Norm):
        after, gain = through_norm(step, one)
    elif isinstance(step, Pool):
        after, gain = through_pool(step, one)
    elif isinstance(step, Upsample):
        after, gain = through_upsampling(step, one)
    else:
        raise TypeError(f"no step: {step!r}")
    return after, [[gain]]


def _check_bias(name: str, weights: Weights, after: Moments) -> None:
    if weights.bias_mean_is_significant and weights.bias_mean != 0.0:
        log_share = 2 * math.log(abs(weights.bias_mean)) - float(after.log_q.max())
        if log_share > math.log(BIAS_MEAN_LIMIT):
            raise NoPredictionError(
                f"{name} has a bias with a mean of {weights.bias_mean:.3g}, {math.exp(0.5 * log_share):.2g} "
                "times the root mean square of its pre-activations: they are not centred"
            )


class _Energy:
    """A squared gradient norm: its natural log, and how it is spread over positions (None: evenly)."""

    def __init__(self, log: float = -math.inf, field_: Array | None = None) -> None:
        self.log, self.field = log, field_

    def back(self, gain: Gain) -> None:
        """Goes back through a gain."""
        if self.log == -math.inf:
            return
        if gain.arrives_at is not None:
            self.field = _even(gain.arrives_at)
        elif gain.axes is not None:
            shape = tuple(matrix.shape[0] for matrix in gain.axes)
            field_ = self.field
            self.field = gather(gain.axes, _even(shape) if field_ is None or field_.shape != shape else field_)
        peak = float(gain.log_factor.max())
        self.log += peak
        if not math.isfinite(peak):
            self.log = -math.inf
            return
        if gain.log_factor.ndim:
            if self.field is None or self.field.shape != gain.log_factor.shape:
                self.field = _even(gain.log_factor.shape)
            self.field = self.field * np.exp(gain.log_factor - peak)
        if self.field is not None:
            total = float(self.field.sum())
            if total == 0.0:
                self.log = -math.inf
                return
            self.field = self.field / total
            self.log += math.log(total)

    def add(self, other: _Energy) -> None:
        """Adds the squared norm of another gradient."""
        if other.log == -math.inf:
            return
        if self.log == -math.inf:
            self.log, self.field = other.log, other.field
            return
        total = float(np.logaddexp(self.log, other.log))
        if self.field is not None and other.field is not None and self.field.shape == other.field.shape:
            self.field = self.field * math.exp(self.log - total) + other.field * math.exp(other.log - total)
        elif self.field is None or (other.log > self.log and other.field is not None):
            self.field = other.field
        self.log = total


def backward(found: Pass, starts: Mapping[int, float], *, until: int = 0) -> list[float]:
    """Natural logs of the squared gradient norms behind each vertex; `starts` are those where the gradient begins, and
    the squared norms there, spread evenly.

    Vertices before `until` are left alone. -inf: no gradient comes there.
    """
    energies = [_Energy() for _ in found.network.vertices]
    for start, size in starts.items():
        energies[start].log = math.log(size)
    for number in range(max(starts), until - 1, -1):
        energy = energies[number]
        if energy.log == -math.inf:
            continue
        for read, gains in zip(found.network.vertices[number].reads, found.gains[number], strict=True):
            if read < until:
                continue
            part = _Energy(energy.log, energy.field)
            for gain in reversed(gains):
                part.back(gain)
            energies[read].add(part)
        energy.field = None  # what is done with is not kept
    return [energy.log for energy in energies]


def _even(shape: Size) -> Array:
    return np.full(shape, 1.0 / math.prod(shape))
