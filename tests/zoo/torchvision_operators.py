"""torchvision's compiled operators for a CPU build of torch, so that torchvision and timm import and detectors run.

The wheel of torchvision on PyPI is built for CUDA; beside a CPU build of torch its library does not load, and the
Python layer, which registers shape functions for these operators on import, finds no schemas. `provide()` declares
them, and gives `nms` and `roi_align` an implementation: their definitions, in torch operations that autograd follows.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

import torch
from torch import Tensor, library

_POOLED = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_BACK = "Tensor grad, Tensor rois{extra}, float spatial_scale, SymInt pooled_height, SymInt pooled_width{ratio}"
_SIZES = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_SAMPLED = ", int sampling_ratio"
_DEFORM = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask"
)


def _backward(name: str, extra: str = "", ratio: str = "", last: str = "") -> str:
    return f"_{name}_backward({_BACK.format(extra=extra, ratio=ratio)}, {_SIZES}{last}) -> Tensor"


SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_POOLED}{_SAMPLED}, bool aligned) -> Tensor",
    f"roi_pool({_POOLED}) -> (Tensor, Tensor)",
    f"ps_roi_align({_POOLED}{_SAMPLED}) -> (Tensor, Tensor)",
    f"ps_roi_pool({_POOLED}) -> (Tensor, Tensor)",
    f"_roi_align_backward({_BACK.format(extra='', ratio='')}, {_SIZES}{_SAMPLED}, bool aligned) -> Tensor",
    _backward("roi_pool", extra=", Tensor argmax"),
    _backward("ps_roi_align", extra=", Tensor channel_mapping", ratio=_SAMPLED),
    _backward("ps_roi_pool", extra=", Tensor channel_mapping"),
    f"deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_DEFORM}) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    f"{_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)

_declared: library.Library | None = None


def provide() -> None:
    """Declares and implements the operators, once, before torchvision is imported; not where its own library loads."""
    global _declared  # noqa: PLW0603
    found = importlib.util.find_spec("torchvision")
    if _declared is not None or found is None or found.origin is None:
        return
    for compiled in Path(found.origin).parent.glob("_C*.so"):
        with contextlib.suppress(OSError):
            torch.ops.load_library(compiled)
            return
    _declared = library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        _declared.define(schema)
    _declared.impl("nms", nms, "CPU")
    _declared.impl("roi_align", roi_align, "CompositeImplicitAutograd")
    import torchvision

    for module in (torchvision.extension, sys.modules["torchvision.ops.roi_align"]):
        module._has_ops = lambda: True  # what they ask before they call one


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The indices of the boxes that no better one overlaps by more than the threshold, the best first."""
    order = scores.argsort(descending=True, stable=True)
    corners = boxes[order]
    area = (corners[:, 2:] - corners[:, :2]).prod(1)
    inner = torch.minimum(corners[:, None, 2:], corners[None, :, 2:]) - torch.maximum(
        corners[:, None, :2], corners[None, :, :2]
    )
    shared = inner.clamp(min=0).prod(2)
    overlaps = shared > iou_threshold * (area[:, None] + area[None, :] - shared)
    dropped = torch.zeros(len(order), dtype=torch.bool)
    for index in range(len(order)):
        if not dropped[index]:
            dropped[index + 1 :] |= overlaps[index, index + 1 :]
    return order[~dropped]


def roi_align(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The mean of bilinear samples in each cell of a grid over each box; a row of `rois` is image, x1, y1, x2, y2."""
    pooled = (pooled_height, pooled_width)
    cells = [_pool(features, roi, spatial_scale, pooled, sampling_ratio, aligned) for roi in rois]
    return torch.stack(cells) if cells else features.new_zeros(0, features.shape[1], *pooled)


def _pool(
    features: Tensor, roi: Tensor, scale: float, pooled: tuple[int, int], sampling_ratio: int, aligned: bool
) -> Tensor:
    start = roi[1:3] * scale - (0.5 if aligned else 0.0)
    size = (roi[3:5] - roi[1:3]) * scale
    if not aligned:
        size = size.clamp(min=1.0)
    samples = []
    for axis, count in ((1, pooled[0]), (0, pooled[1])):  # rows run along y, columns along x
        per_cell = sampling_ratio if sampling_ratio > 0 else max(int((size[axis] / count).ceil()), 1)
        steps = (torch.arange(count * per_cell, dtype=roi.dtype, device=roi.device) + 0.5) / per_cell
        samples.append(start[axis] + steps * size[axis] / count)
    sampled = _bilinear(features[int(roi[0])], *samples)
    return sampled.unflatten(2, (pooled[1], -1)).unflatten(1, (pooled[0], -1)).mean((2, 4))


def _bilinear(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """`plane` (C, H, W) read at each pair of a row `y` and a column `x`: nothing beyond one pixel outside."""
    weights = []
    for position, size in ((y, plane.shape[1]), (x, plane.shape[2])):
        inside = (position >= -1) & (position <= size)
        at = position.clamp(0, size - 1)
        distance = (at[:, None] - torch.arange(size, dtype=at.dtype, device=at.device)).abs()
        weights.append((1 - distance).clamp(min=0) * inside[:, None])
    return torch.einsum("ih,chw,jw->cij", weights[0], plane, weights[1])
