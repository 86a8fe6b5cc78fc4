"""The steps that a net is made of, for the theory: values only. Weights and Activation are steps too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gradcheck_tool.theory.gaussian import Activation
from gradcheck_tool.theory.spatial import ConvGeometry
from gradcheck_tool.theory.weight_statistics import Unread, Weights


@dataclass(frozen=True)
class Scale:
    """An op that changes size alone: the factor on second moments forward and on squared gradients backward: c² for
    multiplication by a constant c, 1 for one that moves values about. `negative`: the sign changes."""

    factor: float = 1.0
    negative: bool = False


@dataclass(frozen=True)
class Dropout:
    """Dropout in training, with probability `rate`: each second moment grows by 1/(1 − rate), and is of one sample."""

    rate: float


@dataclass(frozen=True)
class Shift:
    """A learned tensor that is added, the same for each sample; its second moment and mean."""

    second_moment: float
    mean: float = 0.0


@dataclass(frozen=True)
class Norm:
    """A normalization.

    `over` says of what the statistics are: "batch" (a channel over samples and positions), "channels" (all channels of
    one position, as layer norm does), or "group" (channels and positions of one sample). `channels` and `values` are
    how many channels, and values in all, are normalized together. `scale` and `shift` are E[γ²] and E[β²], `shift_mean`
    E[β]; `centered`: the mean is taken out (RMS norm leaves it).
    """

    over: Literal["batch", "channels", "group"]
    channels: int
    values: int
    epsilon: float = 1e-5
    scale: float = 1.0
    shift: float = 0.0
    shift_mean: float = 0.0
    centered: bool = True


@dataclass(frozen=True)
class Pool:
    """Average or maximum over windows of `values` positions. `geometry` says where they lie; without it the windows
    divide the map evenly into one of `size`, () being all of it in one."""

    kind: Literal["average", "maximum"]
    values: float
    geometry: ConvGeometry | None = None
    size: tuple[int, ...] = ()


@dataclass(frozen=True)
class Upsample:
    """Each value repeated, to a map of `size`."""

    size: tuple[int, ...]


@dataclass(frozen=True)
class Add:
    """The sum of two values, or their difference."""

    negative: bool = False


@dataclass(frozen=True)
class Gate:
    """The elementwise product of two values, of which one may be broadcast."""


@dataclass(frozen=True)
class Concat:
    """Concatenation along channels; `shares` are the parts of the channels that each value brings."""

    shares: tuple[float, ...]


Stage: TypeAlias = Weights | Unread | Activation | Scale | Dropout | Shift | Norm | Pool | Upsample
Step: TypeAlias = Stage | Add | Gate | Concat
