"""Where energy goes on the grid of a convolution: matrices of tap counts, one per spatial axis.

A convolution with independent, centred weights adds second moments over its taps, so their map obeys a convolution with
a kernel of ones, which is separable; squared gradients go the same way back. Hence border effects, stride, dilation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gradcheck_tool.theory.gaussian import Array

Size: TypeAlias = tuple[int, ...]
Axes: TypeAlias = tuple[Array, ...]
Positions: TypeAlias = npt.NDArray[np.int64]

# Above these an axis is represented by one position and taken to be borderless. What a border of n positions loses in
# L layers is about sqrt(2 L / 3) * 0.8 / n of the energy: for 3-wide kernels, n = 150 and L = 20 that is 0.01 decades.
AXIS_CAP = 256
MAP_CAP = 2**15


@dataclass(frozen=True)
class ConvGeometry:
    """The spatial side of a convolution, one entry per axis; `padding` is (before, after).

    Of a transposed convolution `padding` is what torch calls so: what is cut from the full output; `output_size`
    holds its output padding. `padding_mode` is torch's: "zeros", "reflect", "replicate", "circular".
    """

    input_size: Size
    output_size: Size
    kernel: Size
    stride: Size
    padding: tuple[tuple[int, int], ...]
    dilation: Size
    groups: int = 1
    transposed: bool = False
    padding_mode: str = "zeros"


def grid_of(size: Size) -> Size:
    """The shape of the map that stands for a feature map of `size`: the same, or 1 along the axes that are too long."""
    grid = [1 if n > AXIS_CAP else n for n in size]
    while math.prod(grid) > MAP_CAP:
        grid[grid.index(max(grid))] = 1
    return tuple(grid)


@lru_cache(maxsize=512)
def taps(geometry: ConvGeometry) -> Axes:
    """Per axis, how many taps join each input position (column) to each output position (row).

    Along a compressed axis a row is the average over outputs. So `spread` with these gives second moments per output
    position, and `gather` the total of the squared gradients at each input position.
    """
    grid_in, grid_out = grid_of(geometry.input_size), grid_of(geometry.output_size)
    axes = []
    for axis, (n_in, n_out) in enumerate(zip(geometry.input_size, geometry.output_size, strict=True)):
        kernel, stride = geometry.kernel[axis], geometry.stride[axis]
        if grid_in[axis] < n_in:
            interior = kernel / stride if geometry.transposed else float(kernel)
            axes.append(np.full((grid_out[axis], 1), interior))
            continue
        tap = np.arange(kernel)[None, :] * geometry.dilation[axis] - geometry.padding[axis][0]
        if geometry.transposed:
            source: Positions = np.repeat(np.arange(n_in)[:, None], kernel, axis=1)
            target: Positions = source * stride + tap
        else:
            target = np.repeat(np.arange(n_out)[:, None], kernel, axis=1)
            source = _padded(target * stride + tap, n_in, geometry.padding_mode)
        valid = (source >= 0) & (source < n_in) & (target >= 0) & (target < n_out)
        matrix = np.zeros((grid_out[axis], n_in))
        rows = target[valid] if grid_out[axis] == n_out else np.zeros_like(target[valid])
        np.add.at(matrix, (rows, source[valid]), 1.0 if grid_out[axis] == n_out else 1.0 / n_out)
        axes.append(matrix)
    return tuple(axes)


def _padded(position: Positions, n: int, mode: str) -> Positions:
    """The position that a padded position repeats; zero padding leaves it outside of 0 … n − 1."""
    if mode == "circular":
        return position % n
    if mode == "replicate":
        return np.clip(position, 0, n - 1)
    if mode == "reflect" and n > 1:
        folded = np.abs(position) % (2 * n - 2)
        mirrored: Positions = np.minimum(folded, 2 * n - 2 - folded)
        return mirrored
    return position


@lru_cache(maxsize=512)
def resampling(before: Size, after: Size) -> Axes | None:
    """Matrices that carry a map of size `before` over to `after`, each row an average: pooling, cropping, upsampling.

    They keep the total of what is gathered back. None where the sizes differ in rank (a flattened map, say): then
    nothing is known of where things went, and the map becomes uniform.
    """
    if len(before) != len(after) or not before:
        return None
    axes = []
    for n_in, n_out, cells_in, cells_out in zip(before, after, grid_of(before), grid_of(after), strict=True):
        if cells_in < n_in or cells_out < n_out:
            axes.append(np.full((cells_out, cells_in), 1.0 / cells_in))
            continue
        matrix = np.zeros((n_out, n_in))
        start = np.arange(n_out) * n_in // n_out
        stop = np.maximum(start + 1, (np.arange(n_out) + 1) * n_in // n_out)
        for row in range(n_out):
            matrix[row, start[row] : stop[row]] = 1.0 / (stop[row] - start[row])
        axes.append(matrix)
    return tuple(axes)


def spread(axes: Sequence[Array], field: Array) -> Array:
    """Apply one matrix per axis: (n_in, …) → (n_out, …), linear and separable."""
    for axis, matrix in enumerate(axes):
        field = np.moveaxis(np.tensordot(matrix, field, axes=(1, axis)), 0, axis)
    return field


def gather(axes: Sequence[Array], field: Array) -> Array:
    """The transposed of `spread`: (n_out, …) → (n_in, …)."""
    return spread([matrix.T for matrix in axes], field)
