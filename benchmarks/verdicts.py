"""What the verdicts say of models known to train, and of nets known not to: `python benchmarks/verdicts.py [TEXT …]`.

Fresh weights, small inputs. Public models are taken where torchvision, timm or transformers is installed. TEXT narrows
by name. Exits 1 if a model that trains is called sick, or the other way round.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from tabulate import tabulate
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.probing.changes import growth, shrinkage

WIDTH, CLASSES = 128, 10
TRAINS, VANISHES, EXPLODES = "healthy", "vanishing", "exploding"

TORCHVISION = """resnet18 resnet50 resnet101 resnet152 densenet121 densenet201 convnext_tiny efficientnet_b0
    efficientnet_b3 mobilenet_v2 mobilenet_v3_small vgg11_bn shufflenet_v2_x1_0 regnet_y_400mf mnasnet1_0 swin_t
    resnext50_32x4d wide_resnet50_2"""
TIMM = """resnetv2_50 dla34 xception41 hrnet_w18_small ese_vovnet19b_dw cspresnet50 res2net50_26w_4s ghostnet_100
    tf_efficientnetv2_s repvgg_a2 poolformer_s12 selecsls42 darknet53 dm_nfnet_f0"""
TIMM_64 = "vit_tiny_patch16_224 deit_small_patch16_224 mixer_s16_224 resmlp_12_224 cait_xxs24_224"
TRANSFORMERS = "Bert Roberta Llama"
SMALL = {
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "intermediate_size": 4 * WIDTH,
    "vocab_size": 1000,
}


@dataclass(frozen=True)
class Case:
    """A model, a batch for it, and the verdict that it deserves (None where either is right: the border)."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    expected: str | None = TRAINS


def plain(depth: int, norm: type[nn.Module] | None, activation: type[nn.Module] | None) -> nn.Sequential:
    """`depth` layers of Linear, each with a norm and an activation where given, and a head."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers.append(nn.Linear(WIDTH, WIDTH))
        layers += [norm(WIDTH)] if norm else []
        layers += [activation()] if activation else []
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def rows() -> Iterator[Case]:
    """The nets of torch alone, then the public models."""

    def vectors(batch: int = 32) -> Callable[[], Tensor]:
        return lambda: torch.randn(batch, WIDTH)

    for depth, expected in ((10, TRAINS), (20, TRAINS), (30, EXPLODES), (40, EXPLODES), (60, EXPLODES)):
        yield Case(
            f"{depth} × Linear, BN, ReLU", lambda d=depth: plain(d, nn.BatchNorm1d, nn.ReLU), vectors(), expected
        )
    for depth in (10, 40):
        yield Case(f"{depth} × Linear, LN, ReLU", lambda d=depth: plain(d, nn.LayerNorm, nn.ReLU), vectors())
    for depth, expected in ((5, TRAINS), (20, None), (40, VANISHES)):
        yield Case(f"{depth} × Linear", lambda d=depth: plain(d, None, None), vectors(), expected)
    yield Case("5 × Linear, ReLU", lambda: plain(5, None, nn.ReLU), vectors())
    yield Case("20 × Linear, ReLU", lambda: plain(20, None, nn.ReLU), vectors(), VANISHES)
    yield from public()


def public() -> Iterator[Case]:
    """Models of other people, all of which train."""

    def images() -> Tensor:
        return torch.randn(4, 3, 64, 64)

    if (torchvision := installed("torchvision")) is not None:
        for name in TORCHVISION.split():
            yield Case(name, getattr(torchvision.models, name), images)
        yield Case("vit_b_16", lambda: torchvision.models.vit_b_16(image_size=64), images)
        quiet = {"init_weights": False, "aux_logits": False}
        yield Case("googlenet", lambda: torchvision.models.googlenet(**quiet), images)
        yield Case("inception_v3", lambda: torchvision.models.inception_v3(**quiet), lambda: torch.randn(4, 3, 96, 96))
    if (timm := installed("timm")) is not None:
        for name in TIMM.split():
            yield Case(name, lambda n=name: timm.create_model(n), images)
        for name in TIMM_64.split():
            yield Case(name, lambda n=name: timm.create_model(n, img_size=64), images)
    if (hub := installed("transformers")) is not None:
        for name in TRANSFORMERS.split():
            for depth in (4, 12):
                config = getattr(hub, f"{name}Config")(**SMALL, num_hidden_layers=depth)
                build = getattr(hub, f"{name}Model")
                yield Case(
                    f"{name} {depth} layers", lambda b=build, c=config: b(c), lambda: torch.randint(0, 1000, (4, 32))
                )
        config = hub.GPT2Config(n_embd=WIDTH, n_layer=4, n_head=4)
        yield Case("GPT-2 4 layers", lambda: hub.GPT2LMHeadModel(config), lambda: torch.randint(0, 1000, (4, 32)))


def installed(name: str) -> object | None:
    """The package, or None with a line that says so."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision without its compiled part raises RuntimeError
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None


def main(wanted: list[str]) -> int:
    """Print the table; 1 if a verdict is wrong."""
    table, wrong = [], 0
    for case in rows():
        if wanted and not any(text in case.name for text in wanted):
            continue
        torch.manual_seed(0)
        profile = gct.probe(case.build(), case.inputs())
        missed = case.expected is not None and profile.verdict != case.expected
        wrong += missed
        figures = shrinkage(profile.layers), growth(profile.layers)[0], profile.measured_decades
        table.append((case.name, len(profile.layers), *figures, profile.verdict, "MISS" if missed else "ok"))
        print(".", end="", file=sys.stderr, flush=True)
    head = ("model", "layers", "quarters", "growth", "decades", "verdict", "")
    print("\n" + tabulate(table, head, floatfmt="+.2f", missingval="-"))
    print("\nquarters: log10 of the median gradient norm of the first quarter of the layers over that of the last")
    print("growth: log10 of ‖∂L/∂W‖·‖W‖ of the first layer over that of the last")
    print(f"{wrong} of {len(table)} verdicts are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
