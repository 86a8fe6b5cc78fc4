"""What signal-propagation theory has to know of a weight layer, read off its tensors, and whether the theory may be
applied to such weights at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gradcheck_tool.theory.spatial import ConvGeometry

# The limits were measured on chains of 10 to 20 layers that are all alike (width 16 to 512; ReLU, tanh, sigmoid, GELU):
# up to them predictions are right to 0.3 decades or so. Initializations in use stay well within.
MEAN_LIMIT = 0.02  # fan_in · mean² over the variance; at 0.1 He-ReLU is off by 0.6 decades over 20 layers, at 1 by 3
SPECTRAL_LIMIT = 1.15  # largest singular value over the random-matrix edge; 1.4 in each layer costs up to 1.7 decades
EFFECTIVE_FAN_IN_LIMIT = 2.0  # inputs that carry a sum; identity and Dirac initializations have 1, a random one n/3
BIAS_MEAN_LIMIT = 0.1  # bias mean² over the second moment of the pre-activations
_SMALL_FAN_IN = 8  # up to this fan-in few inputs are all there are
_SIGNIFICANT = 4.0  # a mean within this many standard errors of zero is a random matrix's own
_CHUNK = 1 << 16  # elements converted to float64 at a time: half a megabyte, which stays in the cache of a core
_BLOCK = 1 << 18  # elements multiplied at a time, of a megabyte or two
_CHUNK_ELSEWHERE = 1 << 22  # on accelerators, where each operation costs a start
_POWER_STEPS = 6


@dataclass(frozen=True)
class Weights:
    """One weight layer: Linear, ConvNd, ConvTransposeNd.

    `fan_in` is the number of inputs summed per output element, C_in / groups · ∏ kernel, away from borders (for a
    transposed convolution of stride 1: the stride thins it, which `geometry` says). `fan_out` is C_out / groups ·
    ∏ kernel. `second_moment` is E[w²], the mean included. `spectral_excess` is the largest singular value of the
    weight, as a matrix of outputs × fan-in, over the edge σ(√n + √m) of a random matrix with these second moments
    (Marchenko-Pastur), the root mean square over groups; None: not computed. `effective_fan_in` is fan_in ·
    E[w²]² / E[w⁴]: how many inputs of like weight would do the same (None: not computed). `mean_is_significant` and
    `bias_mean_is_significant`: the mean is not what a random draw of that size would have.
    """

    fan_in: int
    fan_out: int
    mean: float
    second_moment: float
    bias_second_moment: float = 0.0
    spectral_excess: float | None = None
    geometry: ConvGeometry | None = None
    effective_fan_in: float | None = None
    mean_is_significant: bool = True
    bias_mean: float = 0.0
    bias_mean_is_significant: bool = True

    @property
    def inputs_per_tap(self) -> float:
        """Channels that one tap of the kernel sums over; the whole fan-in of a Linear."""
        return self.fan_in if self.geometry is None else self.fan_in / math.prod(self.geometry.kernel)

    @property
    def summed(self) -> float:
        """The number of products that one output element really sums, on average, away from borders."""
        if self.geometry is None or not self.geometry.transposed:
            return float(self.fan_in)
        return self.fan_in / math.prod(self.geometry.stride)

    @property
    def gain_squared(self) -> float:
        """σ_w² = n E[w²]: the second moment of the output over that of the input, biases apart."""
        return self.summed * self.second_moment


@dataclass(frozen=True)
class Unread:
    """A weight layer whose statistics `read` gives. They are asked for when a forward pass comes to it: behind a layer
    for which there is no prediction no weight has to be read."""

    read: Callable[[], Weights]


def weights_of(
    weight: Tensor, bias: Tensor | None = None, *, geometry: ConvGeometry | None = None, spectral: bool = True
) -> Weights:
    """Read the statistics of a weight layer off its tensors.

    Args:
        weight: (out, in) as of Linear (hand over `W.T` for `x @ W`), (out, in / groups, *kernel) of a convolution,
            (in, out / groups, *kernel) of a transposed one. Real, on any device but meta.
        bias: any shape, or None.
        geometry: of a convolution; without it the weight's further axes are summed over as a Linear's inputs are.
        spectral: whether to estimate the largest singular value (six power iterations: eleven passes over the weight).

    Sums are taken in float64, in pieces, so that no float64 copy of a large weight is made. No random state is touched.

    Raises:
        ValueError: the weight is complex, empty, or on the meta device.
    """
    check_readable(weight)
    if bias is not None:
        check_readable(bias)
    with torch.no_grad():
        mean, second_moment, fourth_moment = _moments(weight)
        matrices = _matrices(weight, geometry)
        _groups, outputs, fan_in = matrices.shape
        excess = None
        if spectral and math.isfinite(second_moment) and second_moment > 0:
            excess = _spectral_excess(matrices, second_moment)
    taps = math.prod(geometry.kernel) if geometry is not None else 1
    weights = Weights(
        fan_in=fan_in,
        fan_out=outputs * taps,
        mean=mean,
        second_moment=second_moment,
        spectral_excess=excess,
        geometry=geometry,
        effective_fan_in=fan_in * second_moment**2 / fourth_moment if 0 < fourth_moment < math.inf else None,
        mean_is_significant=_significant(mean, second_moment, weight.numel()),
        bias_mean_is_significant=False,
    )
    return with_bias(weights, bias)


def check_readable(tensor: Tensor) -> None:
    """Whether `weights_of` takes this tensor.

    Raises:
        ValueError: it is complex, empty, or on the meta device.
    """
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        raise ValueError(f"no statistics of a {tensor.dtype} tensor of shape {tuple(tensor.shape)}")


def with_bias(weights: Weights, bias: Tensor | None) -> Weights:
    """The same weight layer, of which nothing was known of the bias, with this one."""
    if bias is None:
        return weights
    with torch.no_grad():
        mean, second_moment, _ = _moments(bias)
    significant = _significant(mean, second_moment, bias.numel())
    return replace(weights, bias_mean=mean, bias_second_moment=second_moment, bias_mean_is_significant=significant)


def objection(weights: Weights) -> str | None:
    """Why signal-propagation theory says nothing about a layer with these weights; None where it does.

    The theory takes weights for independent draws around zero. What it cannot see is a direction that every layer
    amplifies coherently: a common mean, or one singular value far above the random ones.
    """
    if not math.isfinite(weights.second_moment) or not math.isfinite(weights.bias_second_moment):
        return "weights that are not finite"
    if weights.second_moment == 0.0:
        return "weights that are all zero: no gradient passes"
    variance = max(0.0, weights.second_moment - weights.mean**2)
    if variance <= 1e-12 * weights.second_moment:
        return f"constant weights (all {weights.mean:.3g}): its units all compute the same"
    ratio = weights.summed * weights.mean**2 / variance
    if weights.mean_is_significant and ratio > MEAN_LIMIT:
        return (
            f"weights with a mean of {weights.mean:.3g} at a standard deviation of {math.sqrt(variance):.3g} "
            f"(fan-in · mean² is {ratio:.2g} of the variance; the theory holds to {MEAN_LIMIT})"
        )
    if weights.spectral_excess is not None and not weights.spectral_excess <= SPECTRAL_LIMIT:
        return (
            f"a largest singular value of {weights.spectral_excess:.3g} times the edge of a random matrix "
            f"(the theory holds to {SPECTRAL_LIMIT})"
        )
    effective = weights.effective_fan_in
    if effective is not None and effective < EFFECTIVE_FAN_IN_LIMIT and weights.fan_in > _SMALL_FAN_IN:
        return (
            f"nearly all its weight on {effective:.2g} of {weights.fan_in} inputs (identity, Dirac and very sparse "
            "weights do not mix their inputs into a Gaussian)"
        )
    return None


def _moments(tensor: Tensor) -> tuple[float, float, float]:
    """Mean, second and fourth moment in float64; what overflows is inf."""
    total = square = fourth = 0.0
    buffer: Tensor | None = None
    for piece in _pieces(tensor):
        if buffer is None or len(buffer) < piece.numel():
            buffer = torch.empty(piece.numel(), dtype=torch.float64, device=piece.device)
        exact = buffer[: piece.numel()]
        exact.view(piece.shape).copy_(piece)  # each piece to the same place, which is in the cache
        total += exact.sum().item()
        exact.mul_(exact)
        square += exact.sum().item()
        fourth += torch.dot(exact, exact).item()
    return total / tensor.numel(), square / tensor.numel(), fourth / tensor.numel()


def _pieces(tensor: Tensor) -> Iterable[Tensor]:
    """All elements, a few at a time, in the order in which they lie in memory (which a transposed view is not in)."""
    chunk = _CHUNK if tensor.device.type == "cpu" else _CHUNK_ELSEWHERE
    if tensor.numel() <= chunk:
        return (tensor.detach(),)
    laid = tensor.detach().permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    if laid.is_contiguous():
        return torch.split(laid.view(-1), chunk)
    return torch.split(laid, max(1, chunk * laid.shape[0] // laid.numel()))


def _significant(mean: float, second_moment: float, count: int) -> bool:
    variance = max(0.0, second_moment - mean**2)
    return mean**2 > _SIGNIFICANT**2 * variance / count


def _matrices(weight: Tensor, geometry: ConvGeometry | None) -> Tensor:
    """The weight as (groups, outputs per group, fan-in): a view where torch can."""
    weight = weight.detach()
    groups = 1 if geometry is None else geometry.groups
    if weight.dim() < 2:
        return weight.reshape(1, 1, -1)
    by_group = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    if geometry is not None and geometry.transposed:
        by_group = by_group.transpose(1, 2)
    return by_group.flatten(2)


def _spectral_excess(matrices: Tensor, second_moment: float) -> float:
    """The largest singular value over the edge of a random matrix, by power iteration: a lower bound, and close to it
    where it is an outlier; of several groups the root mean square (the largest of many small ones is large by chance).

    From the fixed start, a singular value twice the edge shows after four steps in any matrix up to 10⁴ × 10⁴.
    """
    groups, outputs, fan_in = matrices.shape
    roots = math.sqrt(outputs) + math.sqrt(fan_in)
    if min(outputs, fan_in) == 1:  # of rank one: the root of the sum of the squares
        return math.sqrt(outputs * fan_in) / roots
    matrices = matrices if matrices.dtype in (torch.float32, torch.float64) else matrices.float()
    # In units of the edge the largest lies between about 1/2 and √min(outputs, fan_in), so that the powers stay within
    # float32 and no vector has to be normalized on the way.
    unit = min(1.0 / (math.sqrt(second_moment) * roots), torch.finfo(matrices.dtype).max)
    v = _start(fan_in).to(matrices)
    if groups == 1:
        v = _powers(matrices[0], v, unit)
        u = torch.mv(matrices[0], v)
    else:
        v = v.expand(groups, -1)[:, :, None]
        for _ in range(_POWER_STEPS - 1):
            v = torch.bmm(matrices.mT, torch.bmm(matrices, v).mul_(unit)).mul_(unit)
        u = torch.bmm(matrices, v)
    before, after = (torch.linalg.vector_norm(x.view(groups, -1), dim=1, dtype=torch.float64) for x in (v, u))
    return unit * math.sqrt(float((after / before).nan_to_num_(0.0).square_().mean()))


def _powers(matrix: Tensor, v: Tensor, unit: float) -> Tensor:
    """(unit² WᵀW) to the power of the steps but one, times v. Both products are taken of some rows at a time, so that
    the second finds them in the cache."""
    rows = max(1, _BLOCK // matrix.shape[1]) if matrix.device.type == "cpu" else len(matrix)
    first, *others = [(block, block.mT) for block in torch.split(matrix, rows)]
    for _ in range(_POWER_STEPS - 1):
        total = torch.mv(first[1], torch.mv(first[0], v).mul_(unit))
        for block, transposed in others:
            total.addmv_(transposed, torch.mv(block, v).mul_(unit))
        v = total.mul_(unit)
    return v


@lru_cache(maxsize=64)
def _start(size: int) -> Tensor:
    """The vector from which power iterations start: always the same, so that results are."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    return torch.randn(size, generator=generator, device="cpu", dtype=torch.float32)
