"""Sources of models in the styles that people write, and the lines that `reinit` adds to each (in front of them in
the diff stands a +, of what it replaces a -)."""

from __future__ import annotations

from dataclasses import dataclass

WHY = "# at the critical gain of the activations a gradient keeps its norm"
CENTRED = f"{WHY}; the biases take their mean away"


@dataclass(frozen=True)
class Style:
    """A file `model.py`, and the changed lines of it, in their order."""

    name: str
    source: str
    changes: str

    def __str__(self) -> str:
        return self.name


# Where a source names no inputs, the usual ones are inferred.
STYLES = [
    Style(
        "attributes",
        """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(16, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 16)
        self.fc4 = nn.Linear(16, 16)
        self.fc5 = nn.Linear(16, 16)
        self.fc6 = nn.Linear(16, 16)
        self.out = nn.Linear(16, 4)  # the head

    def forward(self, x):
        x = torch.sigmoid(self.fc1(x))
        x = torch.sigmoid(self.fc2(x))
        x = torch.sigmoid(self.fc3(x))
        x = torch.sigmoid(self.fc4(x))
        x = torch.sigmoid(self.fc5(x))
        x = torch.sigmoid(self.fc6(x))
        return self.out(x)
""",
        f"""
+        {CENTRED}
+        nn.init.orthogonal_(self.fc1.weight)
+        nn.init.zeros_(self.fc1.bias)
+        for layer, gain in (
+            (self.fc2, 4.723),
+            (self.fc3, 4.704),
+            (self.fc4, 4.687),
+            (self.fc5, 4.671),
+            (self.fc6, 4.656),
+        ):
+            nn.init.orthogonal_(layer.weight, gain=gain)
+            layer.bias.data.copy_(-0.5 * layer.weight.data.sum(1))
""",
    ),
    Style(
        "a Sequential at the top of the file, initialized there",
        """
import torch
from torch import nn

model = nn.Sequential(*[part for _ in range(6) for part in (nn.Linear(16, 16), nn.Tanh())], nn.Linear(16, 4))
for module in model:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
""",
        f"""
+{WHY}
+layers = [layer for layer in model if isinstance(layer, nn.Linear)]
+gains = [1.0, 1.467, 1.423, 1.387, 1.358, 1.334]
+for i, layer in enumerate(layers[:-1]):
+    nn.init.orthogonal_(layer.weight, gain=gains[min(i, 5)])
+    nn.init.zeros_(layer.bias)
+nn.init.orthogonal_(layers[-1].weight)
+nn.init.zeros_(layers[-1].bias)
""",
    ),
    Style(
        "a ModuleList",
        """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, depth=20, width=32):
        super().__init__()
        self.inp = nn.Linear(16, width)
        self.body = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.relu(self.inp(x))
        for layer in self.body:
            x = layer(x).relu()
        return self.out(x)
""",
        f"""
+        {WHY}
+        gain = (self.inp.out_features / self.inp.in_features) ** 0.5
+        nn.init.orthogonal_(self.inp.weight, gain)
+        nn.init.zeros_(self.inp.bias)
+        for layer in self.body:
+            nn.init.orthogonal_(layer.weight, gain=2**0.5)
+            nn.init.zeros_(layer.bias)
""",
    ),
    Style(
        "a block class, whose layers have two activations",
        """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x):
        return torch.tanh(self.second(torch.relu(self.first(x))))


class Net(nn.Module):
    def __init__(self, depth=5):
        super().__init__()
        self.blocks = nn.Sequential(*[Block(16) for _ in range(depth)])
        self.head = nn.Linear(16, 4)
        self.register_buffer("scale", torch.ones(4))
        for block in self.blocks:
            nn.init.normal_(block.first.weight, std=0.05)

    def forward(self, x):
        return self.head(self.blocks(x)) * self.scale
""",
        f"""
+        {WHY}
+        layers = [block.first for block in self.blocks]
+        gains = [1.0, 1.467, 1.423, 1.387, 1.358]
+        for i, layer in enumerate(layers):
+            nn.init.orthogonal_(layer.weight, gain=gains[min(i, 4)])
+            nn.init.zeros_(layer.bias)
+        for block in self.blocks:
+            nn.init.orthogonal_(block.second.weight, gain=2**0.5)
+            nn.init.zeros_(block.second.bias)
""",
    ),
    Style(
        "a factory that returns an expression",
        '''
import torch
from torch import nn


def build_model(width=32, depth=16):
    """A plain net."""
    parts = [nn.Linear(width, width), nn.ReLU()]
    for _ in range(depth):
        parts += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(
        *parts,
        nn.Linear(width, 4),
    )  # made
''',
        f"""
-    return nn.Sequential(
+    model = nn.Sequential(
+    {WHY}
+    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
+    for i, layer in enumerate(layers[:-1]):
+        nn.init.orthogonal_(layer.weight, gain=2**0.5 if i else 1.0)
+        nn.init.zeros_(layer.bias)
+    return model
""",
    ),
    Style(
        "a factory that initializes what the class made",
        """
import torch
from torch import nn


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=0.02)


class MLP(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.net = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(depth)])
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.net(x))


def build_model(depth=5):
    net = MLP(depth)
    net.apply(init_weights)
    return net
""",
        f"""
+    {WHY}
+    layers = [block[0] for block in net.net]
+    gains = [1.0, 1.467, 1.423, 1.387, 1.358]
+    for i, layer in enumerate(layers):
+        nn.init.orthogonal_(layer.weight, gain=gains[min(i, 4)])
+        nn.init.zeros_(layer.bias)
+    nn.init.orthogonal_(net.head.weight)
+    nn.init.zeros_(net.head.bias)
""",
    ),
    Style(
        "an instance of a class at the top of the file",
        """
import torch
from torch import nn


class Deep(nn.Sequential):
    def __init__(self, depth: int = 12) -> None:
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(24, 24, bias=False), nn.ReLU()]
        super().__init__(*layers, nn.Linear(24, 4))


model = Deep()
""",
        f"""
+        {WHY}
+        layers = [layer for layer in self if isinstance(layer, nn.Linear)]
+        for i, layer in enumerate(layers[:-1]):
+            nn.init.orthogonal_(layer.weight, gain=2**0.5 if i else 1.0)
""",
    ),
    Style(
        "convolutions, some in groups, and bare names",
        """
import torch
import torch.nn.functional as F
from torch.nn import Conv2d, Linear, Module, ModuleList


class Net(Module):
    def __init__(self):
        super().__init__()
        self.stem = Conv2d(3, 16, 3, padding=1)
        self.body = ModuleList()
        for i in range(12):
            self.body.append(Conv2d(16, 16, 3, padding=1, groups=2))
        self.head = Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for conv in self.body:
            x = F.relu(conv(x))
        return self.head(x.mean((2, 3)))


example_inputs = torch.randn(16, 3, 8, 8)
""",
        f"""
+        {WHY}
+        torch.nn.init.orthogonal_(self.stem.weight)
+        torch.nn.init.zeros_(self.stem.bias)
+        for layer in self.body:
+            for part in layer.weight.data.chunk(layer.groups):
+                torch.nn.init.orthogonal_(part, gain=2**0.5)
+            torch.nn.init.zeros_(layer.bias)
""",
    ),
    Style(
        "convolutions and linear layers in two Sequentials",
        """
import torch
from torch import nn


class VGG(nn.Module):
    def __init__(self, cfg=(16, 16, "M", 24, 24, 24, 24, 24, 24, 24)):
        super().__init__()
        self.features = self._make_layers(cfg)
        self.classifier = nn.Sequential(
            nn.Linear(24 * 16, 32), nn.ReLU(True), nn.Linear(32, 32), nn.ReLU(True), nn.Linear(32, 10)
        )

    def _make_layers(self, cfg):
        layers, channels = [], 3
        for v in cfg:
            if v == "M":
                layers += [nn.MaxPool2d(2)]
            else:
                layers += [nn.Conv2d(channels, v, 3, padding=1), nn.ReLU(True)]
                channels = v
        return nn.Sequential(*layers)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


example_inputs = torch.randn(16, 3, 8, 8)
""",
        f"""
+        {WHY}
+        layers = [layer for layer in self.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
+        for i, layer in enumerate(layers[:-1]):
+            nn.init.orthogonal_(layer.weight, gain=2**0.5 if i else 1.0)
+            nn.init.zeros_(layer.bias)
""",
    ),
    Style(
        "inheritance, the constructor in the base class",
        '''
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(depth)])

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return x


class Net(Base):
    """A net."""

    def act(self, x):
        return torch.sigmoid(x)


def make_model():
    return Net(6)
''',
        f"""
+    def __init__(self, *args, **kwargs):
+        super().__init__(*args, **kwargs)
+        {CENTRED}
+        nn.init.orthogonal_(self.layers[0].weight)
+        nn.init.zeros_(self.layers[0].bias)
+        gains = [4.723, 4.704, 4.687, 4.671]
+        for i, layer in enumerate(self.layers[1:-1]):
+            nn.init.orthogonal_(layer.weight, gain=gains[min(i, 3)])
+            layer.bias.data.copy_(-0.5 * layer.weight.data.sum(1))
+
""",
    ),
    Style(
        "parameters that are multiplied by hand",
        """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(16, 16) * 0.05)
        self.b1 = nn.Parameter(torch.zeros(16))
        self.w2 = nn.Parameter(torch.randn(16, 16) * 0.05)
        self.b2 = nn.Parameter(torch.zeros(16))
        self.w3 = nn.Parameter(torch.randn(16, 32) * 0.05)
        self.b3 = nn.Parameter(torch.zeros(32))
        self.w4 = nn.Parameter(torch.randn(32, 32) * 0.05)
        self.b4 = nn.Parameter(torch.zeros(32))
        self.out = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.sigmoid(x @ self.w1 + self.b1)
        x = torch.sigmoid(x @ self.w2 + self.b2)
        x = torch.sigmoid(x @ self.w3 + self.b3)
        x = torch.sigmoid(x @ self.w4 + self.b4)
        return self.out(x)


example_inputs = torch.randn(32, 16)
""",
        f"""
+        {CENTRED}
+        nn.init.orthogonal_(self.w1)
+        nn.init.zeros_(self.b1)
+        nn.init.orthogonal_(self.w2, gain=4.723)
+        self.b2.data.copy_(-0.5 * self.w2.data.sum(0))
+        gain = 4.704 * (self.w3[0].numel() / len(self.w3)) ** 0.5
+        nn.init.orthogonal_(self.w3, gain)
+        self.b3.data.copy_(-0.5 * self.w3.data.sum(0))
+        nn.init.orthogonal_(self.w4, gain=4.687)
+        self.b4.data.copy_(-0.5 * self.w4.data.sum(0))
""",
    ),
    Style(
        "transposed convolutions, which are drawn normal, with tabs and an object that has the model",
        """
import torch
from torch import nn

class Trainer:
\tdef __init__(self, depth=8):
\t\tself.model = nn.Sequential(
\t\t\tnn.ConvTranspose2d(4, 16, 2, stride=2), nn.ReLU(),
\t\t\t*[part for _ in range(depth) for part in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())],
\t\t\tnn.Conv2d(16, 3, 1),
\t\t)
\t\tself.model.to("cpu")
\t\tself.steps = 0

model = Trainer().model
example_inputs = torch.randn(16, 4, 8, 8)
""",
        f"""
+\t\t{WHY}
+\t\tlayers = [layer for layer in self.model if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
+\t\tnn.init.normal_(layers[0].weight, std=0.5)
+\t\tnn.init.zeros_(layers[0].bias)
+\t\tfor layer in layers[1:-1]:
+\t\t\tnn.init.orthogonal_(layer.weight, gain=2**0.5)
+\t\t\tnn.init.zeros_(layer.bias)
""",
    ),
    Style(
        "an autoencoder: some layers widen",
        """
import torch
from torch import nn


class AutoEncoder(nn.Module):
    def __init__(self, sizes=(32, 24, 16, 24, 16, 24, 16, 24, 32)):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.sigmoid(layer(x))
        return self.layers[-1](x)
""",
        f"""
+        {CENTRED}
+        nn.init.orthogonal_(self.layers[0].weight)
+        nn.init.zeros_(self.layers[0].bias)
+        gains = [4.723, 4.704, 4.687, 4.671, 4.656, 4.642]
+        for i, layer in enumerate(self.layers[1:-1]):
+            gain = gains[min(i, 5)] * max(1, layer.out_features / layer.in_features) ** 0.5
+            nn.init.orthogonal_(layer.weight, gain)
+            layer.bias.data.copy_(-0.5 * layer.weight.data.sum(1))
""",
    ),
    Style(
        "a factory that calls it by two names, and builds it step by step",
        """
import torch
from torch import nn


def build_model(sizes=(16, 16, 16, 16)):
    seq = nn.Sequential()
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        seq.add_module(f"fc{i}", nn.Linear(a, b))
        seq.add_module(f"act{i}", nn.Sigmoid())
    seq.add_module("head", nn.Linear(16, 3))
    model = seq
    return model
""",
        f"""
+    {CENTRED}
+    layers = [layer for layer in seq if isinstance(layer, nn.Linear)]
+    nn.init.orthogonal_(layers[0].weight)
+    nn.init.zeros_(layers[0].bias)
+    for i, layer in enumerate(layers[1:-1]):
+        nn.init.orthogonal_(layer.weight, gain=4.704 if i else 4.723)
+        layer.bias.data.copy_(-0.5 * layer.weight.data.sum(1))
""",
    ),
]
