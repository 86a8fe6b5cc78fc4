"""Public models on noise with random labels: `python benchmarks/random_labels.py [TEXT …]`, with torchvision and timm.

There is nothing to learn but the batch by heart, which plain nets with pooling take long for: such a batch, which many
an example file holds, must get none of them called sick. Fresh weights, 8 images of 224×224, 1000 classes,
cross-entropy. TEXT narrows by name. Exits 1 if a model is called sick. One thread, about 5 minutes.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from tabulate import tabulate
from torch import nn
from torch.nn.functional import cross_entropy
from zoo import imported

import gradcheck_tool as gct

TORCHVISION = """alexnet squeezenet1_0 squeezenet1_1 vgg11 vgg16_bn resnet18 mobilenet_v2 mobilenet_v3_small
    efficientnet_b0 densenet121 regnet_y_400mf shufflenet_v2_x1_0 mnasnet1_0 convnext_tiny"""
TIMM = "convnext_atto vit_tiny_patch16_224 mixer_s16_224 resmlp_12_224 ghostnet_100"
BATCH, SIDE, CLASSES, SEED = 8, 224, 1000, 0


def models() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Each model's name, and what builds it, weights and all."""
    torchvision, timm = imported("torchvision"), imported("timm")
    for name in TORCHVISION.split():
        yield name, lambda name=name: torchvision.models.get_model(name, weights=None, num_classes=CLASSES)  # type: ignore[misc]
    for name in TIMM.split():
        yield f"timm {name}", lambda name=name: timm.create_model(name, num_classes=CLASSES)  # type: ignore[misc]


def main(arguments: list[str]) -> int:
    """Prints each model as it is measured, then all of them."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    draw = torch.Generator().manual_seed(SEED)
    x = torch.randn(BATCH, 3, SIDE, SIDE, generator=draw)
    y = torch.randint(CLASSES, (BATCH,), generator=draw)
    rows = []
    for name, make in models():
        if arguments and not any(text in name for text in arguments):
            continue
        start = time.perf_counter()
        torch.manual_seed(SEED)
        model = make().train()
        profile = gct.probe(model, x, cross_entropy, y, seed=SEED)
        rows.append((name, profile.verdict, "; ".join(profile.reasons) or "-"))
        print(*rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    print(tabulate(rows, ("model", "verdict", "reasons")))
    sick = sum(row[1] != "healthy" for row in rows)
    print(f"{sick} of {len(rows)} models called sick")
    return 1 if sick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
