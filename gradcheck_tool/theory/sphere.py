"""Batch norm over N values: E[φ²], E[φ'²] and the rest, for pre-activations that are exactly normalized.

The N values of a channel, less their mean and divided by their standard deviation, lie on a sphere of radius √N in
N − 1 dimensions; in a wide net at its fixed point they lie on it evenly, since the samples are exchangeable (Yang et
al. 2019, "A Mean Field Theory of Batch Normalization", section 3). Two coordinates of such a point have correlation
−1/(N − 1), and the squared gradient norm grows by

    χ(N) = N / ((N − 3) λ) · κ,     λ = E[φ(x₁)²] − E[φ(x₁) φ(x₂)],
    κ = E[φ'₁²] − (E[φ'₁²] − E[φ'₁ φ'₂] + E[x₁² φ'₁²] − E[x₁ φ'₁ x₂ φ'₂]) / N

a block: N/(N − 3) is what E[1/s²] has over 1/E[s²] at N − 1 degrees of freedom, and κ what is left of a gradient
that is φ' times an isotropic one orthogonal to the mean, once norm's backward pass has taken the mean and x̂ out of it.
For the identity that is (N − 2)/(N − 3); for N → ∞ it is E[φ'²] / Var[φ].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch

from gradcheck_tool.theory.gaussian import Activation, Array, value_and_slope

FEWEST = 6  # values that batch norm needs for E[1/s²] and the density of two coordinates to exist
GAUSSIAN_FROM = 2048  # above, the Gaussian is right to 1e-3: each moment differs by about 1/N
_RADII, _ANGLES, _FARTHEST = 300, 360, 9.0


@dataclass(frozen=True)
class SphereMoments:
    """E[φ²], λ = E[φ₁²] − E[φ₁ φ₂], E[φ] and κ, of x = scale · x̂."""

    value: float
    difference: float
    mean: float
    kept: float


_TABLES: WeakKeyDictionary[Activation, dict[tuple[float, int], SphereMoments]] = WeakKeyDictionary()


def sphere_moments(activation: Activation, scale: float, n: int) -> SphereMoments:
    """Moments of φ(scale · x̂) for x̂ evenly on the sphere of N = `n` normalized values, derivatives by x̂.

    Raises:
        ValueError: `n` is below 6.
    """
    if n < FEWEST:
        raise ValueError(f"batch norm over {n} values has no mean-field limit")
    table = _TABLES.setdefault(activation, {})
    if (scale, n) not in table:
        table[scale, n] = _integrate(activation, scale, n)
    return table[scale, n]


def _integrate(activation: Activation, scale: float, n: int) -> SphereMoments:
    # The density of two coordinates falls as (1 − r²/(N − 1))^((N − 5)/2); a fine grid, since kinks cross it anywhere.
    radius = (np.arange(_RADII) + 0.5) * (min(math.sqrt(n - 1), _FARTHEST) / _RADII)
    weights = radius * np.exp(0.5 * (n - 5) * np.log1p(-(radius**2) / (n - 1)))
    weights /= weights.sum()
    angle = (np.arange(_ANGLES) + 0.5) * (2 * math.pi / _ANGLES)
    rho = -1.0 / (n - 1)
    first = radius[:, None] * np.cos(angle)
    second = radius[:, None] * (rho * np.cos(angle) + math.sqrt(1 - rho * rho) * np.sin(angle))
    value, slope = value_and_slope(activation.function, torch.from_numpy(scale * np.stack([first, second])))
    (phi1, phi2), (d1, d2) = value.numpy(), scale * slope.numpy()

    def mean(integrand: Array) -> float:
        return float(weights @ integrand.mean(axis=1))

    squared = mean(0.5 * (phi1**2 + phi2**2))
    steep = mean(0.5 * (d1**2 + d2**2))
    lost = steep - mean(d1 * d2) + mean(0.5 * ((first * d1) ** 2 + (second * d2) ** 2)) - mean(first * d1 * second * d2)
    difference = mean(0.5 * (phi1 - phi2) ** 2)
    return SphereMoments(squared, difference, mean(0.5 * (phi1 + phi2)), max(steep - lost / n, 0.0))


def chi_batch_norm(activation: Activation, batch_size: int) -> float:
    """Growth of the squared gradient norm per block of weights, batch norm over `batch_size` values, and φ.

    Raises:
        ValueError: the batch is smaller than 6.
    """
    moments = sphere_moments(activation, 1.0, batch_size)
    return batch_size / (batch_size - 3) * moments.kept / moments.difference
