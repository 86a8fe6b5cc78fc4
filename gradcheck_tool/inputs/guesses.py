"""What a model's layers tell of its input: the sizes to try for one argument, the likeliest first.

Linear(n) takes n features, ConvNd(c) c channels, Embedding(n) ids below n. Image sizes come from the model's attributes
(`image_size`), from how often it halves the image, and from the data sets that everybody uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradcheck_tool.inputs import BATCH

LENGTH = 16
"""The length of a sequence where it is free."""
_IMAGES = (
    28,
    32,
    224,
    64,
    8,
    96,
    128,
    256,
    299,
    16,
    48,
    84,
    12,
    10,
    20,
    24,
    40,
    50,
    100,
    112,
    160,
    192,
    227,
    300,
    320,
    384,
    512,
    572,
)
"""MNIST, CIFAR, ImageNet, small ImageNets and STL-10, the 8x8 digits, Inception, Atari …; 572 is the U-Net paper's."""
_SIGNALS = (128, 64, 256, 100, 32, 512, 1000, 1024, 784, 16, 140, 187, 500, 2048, 3000, 4096, 5000, 8000, 16000)
"""187: heart beats of MIT-BIH; 140: ECG5000; 16000: a second of speech."""
_VOLUMES = (
    (16, 16, 16),
    (32, 32, 32),
    (16, 112, 112),
    (64, 64, 64),
    (8, 8, 8),
    (28, 28, 28),
    (16, 224, 224),
    (128, 128, 128),
)
_IMAGENET_STRIDE = 32
"""A net that shrinks its image by so much was made for 224 pixels: VGG, ResNet, DenseNet, MobileNet."""
_STEM_KERNEL = 7
"""So is one that begins with such a kernel and a stride: SqueezeNet, AlexNet, a dilated ResNet, vision transformers."""
_SIZE_ATTRIBUTES = ("image_size", "img_size", "input_size", "in_size", "resolution")

_CONVS: dict[type[nn.Module], int] = {
    nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3, nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3,
    nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3,
}  # fmt: skip

_SHRINKING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d)
_SEQUENTIAL = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_MOST = 300


@dataclass(frozen=True)
class Guess:
    """A size to try, batch included. `dtype` None is the model's floating one. `resizable`: how many of the last
    dimensions are the image's or the signal's, to be made larger or smaller together."""

    size: tuple[int, ...]
    reason: str
    dtype: torch.dtype | None = None
    resizable: int = 0

    def at(self, pixels: int) -> Guess:
        """The same with every resizable dimension `pixels` long."""
        return replace(self, size=self.size[: -self.resizable] + (pixels,) * self.resizable)

    @property
    def family(self) -> tuple[str, int, int]:
        """What the guesses that differ in the resizable size alone have in common."""
        return self.reason, len(self.size), self.resizable

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        return size if self.dtype is None else f"{size}:{str(self.dtype).removeprefix('torch.')}"


def guesses(model: nn.Module, arguments: int = 1) -> list[Guess]:
    """What to try for an argument of `model`'s forward, which requires so many `arguments`."""
    found: list[Guess] = []
    whole = _look_over(model)
    seen: set[str] = set()
    for name, module in model.named_modules():
        layer = f"{type(module).__name__}({_told_size(module)})"
        if layer in seen or len(found) > _MOST:
            continue  # it tells nothing that an earlier layer has not told
        seen.add(layer)
        reason = f"{layer} at {name}" if name else layer
        found += [replace(guess, reason=reason) for guess in _from_layer(whole, module, arguments)]
    if found:
        found += _last_resorts()
    likeliest: dict[tuple[tuple[int, ...], torch.dtype | None], Guess] = {}
    for guess in found:
        likeliest.setdefault((guess.size, guess.dtype), guess)
    return list(likeliest.values())


@dataclass(frozen=True)
class _Whole:
    """What the model as a whole tells.

    `reads_sequences`: it mixes positions, by attention or recurrence. `stride`: by how much it shrinks its image; 1x1
    convolutions (shortcuts) stand beside the way, not on it. `stem`: it begins with a large kernel that steps by two or
    more pixels. `embeddings`, `embedded`: how many there are, and of how
    many dimensions together. `sides`: image sizes that it names itself.
    """

    reads_sequences: bool
    stride: int
    stem: bool
    embeddings: int
    embedded: int
    sides: tuple[int, ...]


def _look_over(model: nn.Module) -> _Whole:
    modules = list(model.modules())
    shrinking = [module for module in modules if isinstance(module, _SHRINKING) and _last(module.kernel_size) > 1]
    embeddings = [module for module in modules if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
    return _Whole(
        reads_sequences=any(_mixes_positions(module) for module in modules),
        stride=math.prod(_last(module.stride) for module in shrinking),
        stem=bool(shrinking) and _last(shrinking[0].kernel_size) >= _STEM_KERNEL and _last(shrinking[0].stride) > 1,
        embeddings=len(embeddings),
        embedded=sum(module.embedding_dim for module in embeddings),
        sides=tuple(_said_sides(model)),
    )


def _mixes_positions(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return isinstance(module, _SEQUENTIAL) or any(word in name for word in ("attention", "transformer", "attn"))


def _said_sides(model: nn.Module) -> Iterator[int]:
    for holder in (model, getattr(model, "config", None), *model.children()):
        for attribute in _SIZE_ATTRIBUTES:
            value = getattr(holder, attribute, None)
            side = value[-1] if isinstance(value, (tuple, list)) and value else value
            if isinstance(side, int) and not isinstance(side, bool) and side > 0:
                yield side


def _last(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[-1]


def named_guesses(name: str, general: list[Guess]) -> list[Guess]:
    """What an argument's own name tells: masks, time steps and labels, fitting the first of the `general` guesses."""
    words = name.lower()
    reason = f"the name {name}"
    length = general[0].size[1] if general and len(general[0].size) > 1 else LENGTH
    if "mask" in words:
        sizes = [(BATCH, length), (length, length), (BATCH, 1, 1, length), (BATCH, 1, length), (BATCH, length, length)]
        return [Guess(size, reason, dtype) for size in sizes[:2] for dtype in (torch.bool, torch.int64, None)] + [
            Guess(size, reason, torch.bool) for size in sizes[2:]
        ]
    if words in ("t", "time", "times", "timestep", "timesteps", "step", "steps", "sigma"):
        return [Guess((BATCH,), reason, torch.int64), Guess((BATCH,), reason), Guess((BATCH, 1), reason)]
    if words in ("y", "label", "labels", "class_id", "classes", "cls"):
        return [Guess((BATCH,), reason, torch.int64), Guess((BATCH, length), reason, torch.int64)]
    return []


def _from_layer(whole: _Whole, module: nn.Module, arguments: int) -> Iterator[Guess]:
    """Guesses from one layer; nothing from a module that says nothing of a size (an activation, a container)."""
    if any(is_lazy(parameter) for parameter in module.parameters(recurse=False)):
        yield from _from_lazy(whole, module)
    elif isinstance(module, nn.Linear):
        yield from _features(whole, module.in_features)
    elif isinstance(module, nn.Bilinear):
        yield from (Guess((BATCH, size), "") for size in (module.in1_features, module.in2_features))
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        yield from _ids(whole, arguments)
    elif isinstance(module, nn.RNNBase):
        yield Guess((BATCH, LENGTH, module.input_size), "")
    elif isinstance(module, nn.RNNCellBase):
        yield from (Guess((BATCH, module.input_size), ""), Guess((BATCH, LENGTH, module.input_size), ""))
    elif isinstance(module, nn.MultiheadAttention):
        yield Guess((BATCH, LENGTH, module.embed_dim), "")
    elif isinstance(module, nn.LayerNorm):
        shape = tuple(module.normalized_shape)
        yield from (Guess((BATCH, *shape), ""), Guess((BATCH, LENGTH, *shape), ""))
    elif isinstance(module, nn.BatchNorm1d):
        yield from (Guess((BATCH, module.num_features), ""), Guess((BATCH, module.num_features, LENGTH), ""))
    else:
        rank = next((rank for kind, rank in _CONVS.items() if isinstance(module, kind)), None)
        channels = getattr(module, "in_channels", None) or getattr(module, "num_features", None)
        if rank is not None and isinstance(channels, int):
            transposed = isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
            yield from _grid(whole, channels, rank, transposed)


def _from_lazy(whole: _Whole, module: nn.Module) -> Iterator[Guess]:
    rank = next((rank for kind, rank in _CONVS.items() if isinstance(module, kind)), None)
    if rank is None:
        yield from (Guess((BATCH, 64), ""), Guess((BATCH, LENGTH, 64), ""))
        return
    yield from _grid(whole, 3, rank, transposed=False)


def _features(whole: _Whole, features: int) -> Iterator[Guess]:
    """Vectors, sequences of them (first where the model mixes positions), and images of so many pixels."""
    vector, sequence = Guess((BATCH, features), ""), Guess((BATCH, LENGTH, features), "")
    yield from (sequence, vector) if whole.reads_sequences else (vector, sequence)
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side > 1 and channels * side * side == features:
            yield Guess((BATCH, channels, side, side), "")
    side = math.isqrt(features)
    if side > 1 and side * side == features:
        yield Guess((BATCH, side, side), "")
    if 0 < whole.embedded < features:  # a table of categories and numbers: the numbers' share
        yield Guess((BATCH, features - whole.embedded), "")


def _ids(whole: _Whole, arguments: int) -> Iterator[Guess]:
    """Token ids, as long as the positions allow; one id a sample where several arguments stand beside each other."""
    single = Guess((BATCH,), "", torch.int64)
    if arguments > 1 and not whole.reads_sequences:
        yield single
    for length in (LENGTH, 8, 4, whole.embeddings, 2, 1, 32, 64, 128, 256):
        yield Guess((BATCH, length), "", torch.int64)
    yield single


def _grid(whole: _Whole, channels: int, rank: int, transposed: bool) -> Iterator[Guess]:
    """Signals, images or volumes of so many channels."""
    if rank == 3:
        sizes: list[tuple[int, ...]] = [(2, 2, 2), (1, 1, 1), *_VOLUMES] if transposed else list(_VOLUMES)
        if whole.stride >= _IMAGENET_STRIDE / 2:
            sizes.insert(0, (16, 112, 112))
    else:
        pixels = list(_SIGNALS) if rank == 1 else _image_sides(whole, channels)
        if transposed:
            pixels = [1, 4, 7, 8, 16, *pixels]
        sizes = [(side,) * rank for side in dict.fromkeys(pixels)]
    if transposed:  # a generator, which gives its noise the form of an image itself
        yield Guess((BATCH, channels), "")
    for size in sizes:
        yield Guess((BATCH, channels, *size), "", resizable=rank)
    if channels == 1:  # the model adds the channel itself
        yield from (Guess((BATCH, *size), "", resizable=rank) for size in sizes[:4])
    if rank == 1:  # (batch, length, channels), turned round by the model
        yield from (Guess((BATCH, size[0], channels), "") for size in sizes[:4])


def _image_sides(whole: _Whole, channels: int) -> list[int]:
    """Sides of images: what the model says itself, 224 for a net made for photographs, 28 for one channel, else 32."""
    natural = 224 if whole.stem or whole.stride >= _IMAGENET_STRIDE else 28 if channels == 1 else 32
    return [*whole.sides, natural, *_IMAGES]


def _last_resorts() -> list[Guess]:
    """What nearly everybody feeds a net, whatever its layers are called."""
    images = [(BATCH, 3, 224, 224), (BATCH, 3, 32, 32), (BATCH, 1, 28, 28), (BATCH, 3, 64, 64), (BATCH, 1, 32, 32)]
    return [Guess(size, "the usual sizes") for size in images]


def _told_size(module: nn.Module) -> str:
    """The figures by which a reader knows the layer again: `784, 512`."""
    names = (
        "in_features",
        "out_features",
        "in_channels",
        "out_channels",
        "num_embeddings",
        "embedding_dim",
        "input_size",
        "hidden_size",
        "num_features",
        "embed_dim",
        "in1_features",
        "in2_features",
        "normalized_shape",
    )
    return ", ".join(str(getattr(module, name)) for name in names if hasattr(module, name))
