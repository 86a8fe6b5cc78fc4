"""Well-known architectures, re-created small, without norms unless said, and what the analysis says of a net.

The chains that tests expect of them were read off the papers' diagrams, by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.capturing.recorder import record
from gradcheck_tool.chains import Structure, analyze
from gradcheck_tool.results import Finding

Chains = list[list[str]]


def structure_of(model: nn.Module, *inputs: Any) -> Structure:
    """The analysis of one recorded pass."""
    return analyze(record(model, inputs, {})[0].graph, model)


def chains_of(model: nn.Module, *inputs: Any) -> Chains:
    """The chains by layer names, deepest first."""
    return [[block.name for block in chain] for chain in structure_of(model, *inputs).chains]


def findings(model: nn.Module, *inputs: Tensor, select: str = "GT0", **options: Any) -> tuple[Finding, ...]:
    """What audit finds, for vectors of 8 unless other inputs are given."""
    return gct.audit(model, inputs or (torch.randn(4, 8),), select=[select], **options).findings


class Net(nn.Module):
    """A net whose forward is a function: `Net(lambda net, x: net.fc(x), fc=nn.Linear(2, 2))`."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self._forward(self, *inputs)


def linears(number: int, width: int = 8) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, width) for _ in range(number))


def stack(activate: Callable[[Tensor], Tensor], depth: int = 3, width: int = 8) -> Net:
    """`depth` layers `f.0`, `f.1` …, each with `activate` behind it, and an output layer `out`."""

    def forward(net: Net, x: Tensor) -> Tensor:
        for layer in net.f:
            x = activate(layer(x))
        return net.out(x)

    own = {"activate": activate} if isinstance(activate, nn.Module) else {}
    return Net(forward, f=linears(depth, width), out=nn.Linear(width, 2), **own)


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def image(size: int = 8) -> Tensor:
    return torch.randn(2, 3, size, size)


def vgg(norm: bool = False) -> nn.Module:
    """Convolutions and pooling in turns, then two hidden layers and the logits."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (4, "M", 8, "M", 8, 8):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [conv(channels, width), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU(inplace=True)]
        channels = width
    head = [
        nn.Linear(32, 16),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(16, 16),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(16, 10),
    ]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def alexnet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), conv(4, 8), nn.ReLU(), conv(8, 8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10)),
    )


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = conv(inputs, squeeze, 1), conv(squeeze, expand, 1), conv(squeeze, expand)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    """A stem, two fire modules, and a classifying convolution whose ReLU and pooling are the head."""
    fire = [Fire(4, 2, 4), nn.MaxPool2d(2), Fire(8, 2, 4)]
    return nn.Sequential(conv(3, 4), nn.ReLU(), *fire, conv(8, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Residual(nn.Module):
    """relu(b(relu(a(x))) + x)."""

    def __init__(self, width: int, norm: bool = False) -> None:
        super().__init__()
        self.a, self.b = conv(width, width), conv(width, width)
        self.norm_a, self.norm_b = (
            (nn.BatchNorm2d(width), nn.BatchNorm2d(width)) if norm else (nn.Identity(), nn.Identity())
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm_a(self.a(x)))
        return F.relu(self.norm_b(self.b(y)) + x)


def resnet(norm: bool = False) -> nn.Module:
    stem = [conv(3, 4), *([nn.BatchNorm2d(4)] if norm else []), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)]
    return nn.Sequential(*stem, Residual(4, norm), Residual(4, norm), Residual(4, norm), *pool)


class UNet(nn.Module):
    """Two steps down and up, two convolutions a step, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.e1a, self.e1b, self.e2a, self.e2b = conv(3, 4), conv(4, 4), conv(4, 8), conv(8, 8)
        self.ma, self.mb = conv(8, 8), conv(8, 8)
        self.up2, self.up1 = nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)
        self.d2a, self.d2b, self.d1a, self.d1b = conv(16, 8), conv(8, 8), conv(8, 4), conv(4, 4)
        self.out = conv(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.e1b(F.relu(self.e1a(x))))
        two = F.relu(self.e2b(F.relu(self.e2a(F.max_pool2d(one, 2)))))
        x = F.relu(self.mb(F.relu(self.ma(F.max_pool2d(two, 2)))))
        x = F.relu(self.d2b(F.relu(self.d2a(torch.cat([self.up2(x), two], 1)))))
        x = F.relu(self.d1b(F.relu(self.d1a(torch.cat([self.up1(x), one], 1)))))
        return torch.sigmoid(self.out(x))


class DenseNet(nn.Module):
    """Each layer sees all that came before it."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.layers = nn.ModuleList(conv(4 + 2 * index, 2) for index in range(layers))
        self.out = nn.Linear(4 + 2 * layers, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = [F.relu(self.stem(x))]
        for layer in self.layers:
            features.append(F.relu(layer(torch.cat(features, 1))))
        return self.out(torch.cat(features, 1).mean((2, 3)))


class Inception(nn.Module):
    """Branches of depth 1, 2 and 3, and a pooled one of depth 1, concatenated."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.one = conv(inputs, 2, 1)
        self.two = nn.ModuleList([conv(inputs, 2, 1), conv(2, 2)])
        self.three = nn.ModuleList([conv(inputs, 2, 1), conv(2, 2), conv(2, 2)])
        self.pool = conv(inputs, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.one(x).relu()]
        for layers in (self.two, self.three):
            y = x
            for layer in layers:
                y = layer(y).relu()
            branches.append(y)
        branches.append(self.pool(F.max_pool2d(x, 3, 1, 1)).relu())
        return torch.cat(branches, 1)


def googlenet() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.ReLU(), Inception(4), Inception(8), nn.Flatten(), nn.Linear(512, 10))
