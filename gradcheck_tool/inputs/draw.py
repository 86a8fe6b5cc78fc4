"""Random values for a model's inputs, from a private generator: the global random state is not touched.

Drawn on the CPU and then moved, so that one seed gives the same values on every device.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


def model_device(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer."""
    first = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first parameter that is floating or complex (not of 8 bits, as quantized ones are)."""
    floats = (p.dtype for p in model.parameters() if (p.is_floating_point() or p.is_complex()) and p.dtype.itemsize > 1)
    return next(floats, torch.float32)


def embedding_sizes(model: nn.Module) -> list[int]:
    """The number of rows of each embedding of the model."""
    return [module.num_embeddings for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]


def draw(
    model: nn.Module, size: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator, name: str = ""
) -> Tensor:
    """A tensor for `model`, on its device: floats standard normal, integers uniform below the smallest number of
    embeddings (0 or 1 without an embedding; masks all 1), booleans True (False where the name speaks of padding, since
    torch's padding masks are True where there is none of the sequence).
    """
    device = model_device(model)
    if device.type == "meta":
        return torch.empty(size, dtype=dtype, device=device)
    if dtype == torch.bool:
        return torch.full(size, "pad" not in name, dtype=dtype, device=device)
    if dtype.is_floating_point or dtype.is_complex:
        wide = dtype if dtype.itemsize > 1 else torch.float32
        return torch.randn(size, generator=generator, dtype=wide).to(device, dtype)
    if "mask" in name:
        return torch.ones(size, dtype=dtype, device=device)
    high = min([*embedding_sizes(model), torch.iinfo(dtype).max], default=2) if embedding_sizes(model) else 2
    return torch.randint(0, high, size, generator=generator).to(device, dtype)


def redrawn(tensor: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """A tensor like `tensor` with `batch` rows: floats normal with its mean and standard deviation over the finite
    values, integers uniform in its range, anything else (booleans, sparse tensors) its rows repeated."""
    size = (batch, *tensor.shape[1:])
    if tensor.device.type == "meta":
        return torch.empty(size, dtype=tensor.dtype, device="meta")
    values = tensor.detach()
    ordinary = values.layout == torch.strided and values.numel() > 0 and not values.is_quantized
    if not ordinary or values.dtype == torch.bool:
        rows = torch.arange(batch, device=tensor.device) % max(tensor.shape[0], 1)
        made = values.index_select(0, rows)
    elif values.is_complex():
        spread = values.abs().square().mean().sqrt().cpu()
        made = torch.randn(size, generator=generator, dtype=values.dtype).mul(spread)
    elif values.is_floating_point():
        finite = values.double().cpu()
        finite = finite[finite.isfinite()]
        mean, deviation = (finite.mean().item(), finite.std(unbiased=False).item()) if finite.numel() else (0.0, 1.0)
        made = (torch.randn(size, generator=generator, dtype=torch.float64) * deviation + mean).to(values.dtype)
    else:
        low, high = int(values.min()), int(values.max())
        made = torch.randint(low, high + 1, size, generator=generator).to(values.dtype)
    return made.to(tensor.device).requires_grad_(tensor.requires_grad)
