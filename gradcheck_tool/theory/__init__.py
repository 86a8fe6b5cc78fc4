"""Signal-propagation theory: a net as a graph of steps goes in; how its gradient grows on the way back comes out.

Pre-activations are taken for Gaussians of second moment q. Forward, a weight layer makes q' = n E[w²] E[φ(z)²] + E[b²],
n being the number of taps; backward, the squared norm of the gradient is multiplied by n E[w²] E[φ'(z)²] (the total
over a tensor, so that it is the fan-in that counts: each element of the gradient reaches n inputs). Sums over taps are
taken position by position where the layers are convolutions. Beside q goes the part of it that two samples share
(correlation), of which normalization and pooling take their share. Through dense layers goes not one q but a small
ensemble, one a sample of the batch: at finite width n samples differ in q by (kurtosis − 1)/n a layer, and where the
fixed point is unstable (GELU, SiLU with He) those whose gradient lives on dominate the norm.
Sources: Schoenholz et al. 2017, eqs. 3 to 5 and 14; Yang et al. 2019 for batch norm; Hanin 2018 for fluctuations at
finite width. In words, with what is assumed: docs/theory.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck_tool.theory.activations import activation_named, activation_of, find_kinks
from gradcheck_tool.theory.gaussian import Activation, second_moments
from gradcheck_tool.theory.moments import Moments, NoPredictionError
from gradcheck_tool.theory.network import INPUT, Network, Pass, Vertex, backward, forward
from gradcheck_tool.theory.spatial import ConvGeometry
from gradcheck_tool.theory.sphere import chi_batch_norm
from gradcheck_tool.theory.steps import (
    Add,
    Concat,
    Dropout,
    Gate,
    Norm,
    Pool,
    Scale,
    Shift,
    Stage,
    Step,
    Upsample,
)
from gradcheck_tool.theory.weight_statistics import Unread, Weights, check_readable, objection, weights_of, with_bias

__all__ = [
    "INPUT",
    "Activation",
    "Add",
    "Concat",
    "ConvGeometry",
    "Dropout",
    "Gate",
    "Moments",
    "Network",
    "NoPredictionError",
    "Norm",
    "Pass",
    "Pool",
    "Prediction",
    "Scale",
    "Shift",
    "Stage",
    "Step",
    "Unread",
    "Upsample",
    "Vertex",
    "Weights",
    "activation_named",
    "activation_of",
    "backward",
    "check_readable",
    "chi_batch_norm",
    "find_kinks",
    "forward",
    "objection",
    "predict",
    "second_moments",
    "weights_of",
    "with_bias",
]


@dataclass(frozen=True)
class Prediction:
    """What the theory says of a chain.

    `decades` is log10 of ‖∂L/∂z‖ at the first weight layer's output over that at the last's, norms over the whole
    tensor; None where the theory does not hold, and `reason` says why. `spread` is the standard deviation in decades
    that drawing the weights anew would give, at most: what no theory of infinite width can foretell.
    """

    decades: float | None
    reason: str | None = None
    spread: float | None = None


def predict(stages: Sequence[Stage], q0: float = 1.0) -> Prediction:
    """Predicted change of the gradient norm over one chain.

    Args:
        stages: from the first block's Weights to the last block's; in between anything with one input. Several
            activations in a row are composed.
        q0: second moment of the elements of the chain's input, positive; samples are independent.

    Time and memory are linear in the number of stages. Nothing is drawn at random.

    Raises:
        ValueError: `stages` does not begin and end with Weights.
    """
    if not stages or not all(isinstance(end, (Weights, Unread)) for end in (stages[0], stages[-1])):
        raise ValueError("the stages of a chain begin and end with Weights")
    network = Network()
    position = 0
    for number, stage in enumerate(stages):
        name = ""
        step = stage.read() if isinstance(stage, Unread) else stage
        if isinstance(step, Weights):
            position += 1
            name = f"weight layer {position} of the chain"
            reason = objection(step)
            if reason is not None:
                return Prediction(None, f"{name} has {reason}")
        network.add(step, number - 1, name=name)
    return between(network, 0, len(stages) - 1, q0)


def between(network: Network, first: int, last: int, q0: float = 1.0) -> Prediction:
    """Predicted change of the gradient norm from the vertex `first` to the vertex `last` of a net, where the gradient
    that comes to `last` is the only one."""
    try:
        found = forward(network, q0)
    except NoPredictionError as error:
        return Prediction(None, str(error))
    log_energy = backward(found, {last: 1.0}, until=first)[first]
    if not math.isfinite(log_energy):
        return Prediction(
            None, "no gradient at all reaches the first block: an activation is flat wherever its input lies"
        )
    variance = sum(found.variances[first + 1 : last + 1])
    return Prediction(0.5 * log_energy / math.log(10), spread=0.5 * math.sqrt(variance) / math.log(10))
