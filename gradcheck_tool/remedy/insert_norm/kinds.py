"""The kinds of norms: which class of torch.nn each takes behind which output, or why it takes none.

    batch     per channel, over samples and positions   Ioffe & Szegedy 2015, Batch Normalization
    layer     per sample (per position of a sequence)   Ba, Kiros & Hinton 2016, Layer Normalization
    group     per sample and group of channels          Wu & He 2018, Group Normalization
    instance  per sample and channel, over positions    Ulyanov, Vedaldi & Lempitsky 2016, Instance Normalization
    rms       as layer, without the mean                Zhang & Sennrich 2019, Root Mean Square Layer Normalization
    auto      of batch, layer and group the one that fits each layer

All but batch norm compute the same in training and in evaluation, and for a sample whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gradcheck_tool.remedy.insert_norm.output import Output

NormKind = Literal["auto", "batch", "layer", "group", "instance", "rms"]

MOST_GROUPS, LEAST_CHANNELS = 32, 16
"""Groups, and channels in each: the best settings in Wu & He 2018, table 3, of a fixed number of either."""
FEWEST_SAMPLES = 8
"""Samples from which batch norm's statistics are worth having: in Wu & He 2018, table 2, a batch of 8 costs batch norm
1 % of ImageNet, one of 4 costs 4 % and one of 2 costs 11 %."""
_FEWEST_VALUES = 3
"""Two values, less their mean and over their spread, are always 1 and -1, and no gradient goes back."""


@dataclass(frozen=True)
class Fit:
    """The norm that fits: a class of torch.nn; the number of groups, of a GroupNorm; why it is this one, where that is
    not plain from what was asked for."""

    norm: str
    groups: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Kind:
    """One kind: what the remedy is called, what people call it, what it costs, and `fit`, which returns the norm or the
    reason why there is none."""

    remedy: str
    title: str
    breaks: tuple[str, ...]
    fit: Callable[[Output], Fit | str]


def groups_of(channels: int) -> int:
    """The largest number of equal groups, at most 32, of at least 16 channels each; 1 for fewer than 32 channels."""
    most = min(MOST_GROUPS, channels // LEAST_CHANNELS)
    return next((count for count in range(most, 1, -1) if channels % count == 0), 1)


def forecast_kind(norm: str, channels: int, groups: int | None) -> str | None:
    """What `gradcheck_tool.forecast` calls a norm of torch.nn; None where it knows none with these groups."""
    if norm == "GroupNorm":
        return "layer" if groups == 1 else "group" if groups == math.gcd(MOST_GROUPS, channels) else None
    kind = next(start for start in ("Batch", "Layer", "Instance", "RMS") if norm.startswith(start))
    return kind.lower()


# -- each kind --------------------------------------------------------------------------------------------------------


def _batch(output: Output) -> Fit | str:
    if output.is_stepped:
        return "it is stepped: one batch norm over all steps would mix statistics that change from step to step"
    if not output.has_batch:
        return _no_batch(output)
    if output.is_sequence:
        return f"its output ({output.size}) is a sequence: batch norm would take the wrong axis for channels"
    if output.shape[0] * output.positions == 1:
        return (
            f"its output ({output.size}) has one value per channel, of which there is no variance; two samples have one"
        )
    return Fit(f"BatchNorm{max(output.spatial, 1)}d")


def _layer(output: Output) -> Fit | str:
    if output.spatial:
        note = "GroupNorm(1, C) is layer norm over channels and positions; nn.LayerNorm would fix the image size"
        return _grouped(output, 1, note)
    if output.channels < _FEWEST_VALUES:
        return f"its output ({output.size}) has too few channels: of {output.channels} layer norm leaves the signs"
    return Fit("LayerNorm")


def _group(output: Output) -> Fit | str:
    if output.is_sequence:
        return f"its output ({output.size}) is a sequence: group norm would take the wrong axis for channels"
    return _grouped(output, groups_of(output.channels), None)


def _grouped(output: Output, groups: int, note: str | None) -> Fit | str:
    if not output.has_batch:
        return _no_batch(output)
    values = output.channels // groups * output.positions
    if values < _FEWEST_VALUES:
        return f"its output ({output.size}) has too few values per sample: of {values} a norm leaves the signs"
    return Fit("GroupNorm", groups, note)


def _instance(output: Output) -> Fit | str:
    if not output.spatial:
        return f"its output ({output.size}) has no positions: instance norm would normalize each value by itself"
    if not output.has_batch:
        return _no_batch(output)
    if output.positions < _FEWEST_VALUES:
        count = output.positions
        return f"its output ({output.size}) has too few positions: of {count} instance norm leaves the signs"
    return Fit(f"InstanceNorm{output.spatial}d")


def _rms(output: Output) -> Fit | str:
    if output.spatial:
        return f"nn.RMSNorm goes over the last dimension, which in its output ({output.size}) is none of channels"
    if output.channels < 2:
        return f"its output ({output.size}) has one channel, of which RMS norm leaves the sign"
    return Fit("RMSNorm")


def _auto(output: Output) -> Fit | str:
    batch = _batch(output)
    few = output.samples is not None and output.samples < FEWEST_SAMPLES
    if isinstance(batch, Fit) and not few:
        return batch
    if isinstance(batch, Fit):
        note = f"GroupNorm: the batch has {output.samples} samples, and batch norm's statistics of under 8 are noise"
        return _noted(_group(output), note, batch)
    if output.is_stepped or output.is_sequence or not output.has_batch:
        what = "is stepped" if output.is_stepped else "is a sequence" if output.is_sequence else "has no batch"
        norm = "LayerNorm" if not output.spatial else "GroupNorm(1, C), layer norm over channels and positions"
        return _noted(_layer(output), f"{norm}: what comes out {what}, which batch norm does not fit", batch)
    return _noted(_group(output), "GroupNorm: batch norm would have one value per channel", batch)


def _noted(fit: Fit | str, note: str, otherwise: Fit | str) -> Fit | str:
    return replace(fit, note=note) if isinstance(fit, Fit) else otherwise


def _no_batch(output: Output) -> str:
    return f"its output ({output.size}) has no batch dimension"


# -- the table --------------------------------------------------------------------------------------------------------

_CHECKPOINTS = "Old checkpoints lack the norms: they load with strict=False, and the model has to be trained on."
_ON_THE_BATCH = (
    "In training a sample's output depends on the others in its batch, and a batch of one cannot be trained.",
    "Training and evaluation compute differently: statistics of the batch, then running ones.",
)

KINDS: Mapping[NormKind, Kind] = {
    "auto": Kind("insert-norm", "norms", (_CHECKPOINTS, *_ON_THE_BATCH), _auto),
    "batch": Kind("insert-bn", "batch norm", (_CHECKPOINTS, *_ON_THE_BATCH), _batch),
    "layer": Kind("insert-ln", "layer norm", (_CHECKPOINTS,), _layer),
    "group": Kind("insert-gn", "group norm", (_CHECKPOINTS,), _group),
    "instance": Kind(
        "insert-in",
        "instance norm",
        (_CHECKPOINTS, "The mean and the contrast of each channel of an image are lost."),
        _instance,
    ),
    "rms": Kind("insert-rms", "RMS norm", (_CHECKPOINTS,), _rms),
}
