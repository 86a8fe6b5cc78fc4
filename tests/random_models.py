"""A hypothesis strategy that builds random models: chains and branches of linear and convolutional blocks in many
styles, with normalization here and there, shared and frozen layers, buffers, in-place operations, views and dropout.

`models()` draws a `Case`: a model, and inputs for any batch size. The same draw builds the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "x.tanh()": lambda x: x.tanh(),
    "torch.sigmoid": torch.sigmoid,
    "sigmoid_": lambda x: x.sigmoid_(),
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "F.gelu": F.gelu,
    "clamp": lambda x: x.clamp(min=0),
    "softplus": F.softplus,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
}
MODULES: tuple[type[nn.Module], ...] = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SiLU, nn.Hardtanh)
STEPS = (
    "block", "block", "block", "functional block", "shared block", "residual", "branches", "gate", "norm", "dropout",
    "view", "in place", "buffer", "frozen", "part", "detached", "noise",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a model is built from: data, so that the same plan gives the same model."""

    steps: tuple[tuple[str, int], ...]
    channels: int
    image: tuple[int, int] | None
    double: bool
    seed: int
    partly_eval: bool


class RandomModel(nn.Module):
    """Goes through the steps of a plan on features (N, C) or images (N, C, H, W), and ends in a head."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.layers = nn.ModuleDict()
        self.shared = self.layer()
        self.register_buffer("scale", torch.full((plan.channels,), 1.5))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.weights = nn.ParameterDict()
        for index, (step, choice) in enumerate(plan.steps):
            self.add(str(index), step, choice)
        self.head = nn.Linear(plan.channels, 3)

    def layer(self) -> nn.Module:
        channels = self.plan.channels
        return nn.Conv2d(channels, channels, 3, padding=1) if self.plan.image else nn.Linear(channels, channels)

    def add(self, name: str, step: str, choice: int) -> None:
        channels = self.plan.channels
        if step == "block" and choice % 2:
            self.layers[name] = nn.Sequential(self.layer(), MODULES[choice % len(MODULES)]())
        elif step in ("block", "residual", "gate", "frozen", "part"):
            self.layers[name] = self.layer().requires_grad_(step != "frozen")
        elif step == "branches":
            self.layers[name] = nn.ModuleList([self.layer(), self.layer()])
        elif step == "functional block":
            shape = (channels, channels, 1, 1) if self.plan.image else (channels, channels)
            self.weights[name] = nn.Parameter(torch.randn(shape) / channels**0.5)
        elif step == "norm":
            image = self.plan.image
            norms = (nn.BatchNorm2d if image else nn.BatchNorm1d, lambda c: nn.GroupNorm(1, c))
            self.layers[name] = norms[choice % 2](channels)
        elif step == "dropout":
            self.layers[name] = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        for index, (step, choice) in enumerate(self.plan.steps):
            x = self.step(x, str(index), step, list(ACTIVATIONS.values())[choice % len(ACTIVATIONS)])
        if x.dim() == 4:
            x = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        return self.head(x)

    def step(self, x: Tensor, name: str, step: str, act: Callable[[Tensor], Tensor]) -> Tensor:
        layer = dict(self.layers.items()).get(name)
        if isinstance(layer, nn.ModuleList):
            a, b = (branch(x) for branch in layer)
            return torch.cat([act(a), b], dim=1).view(x.size(0), 2, *x.shape[1:]).sum(1)
        if step == "functional block":
            weight = self.weights[name]
            return act(F.conv2d(x, weight) if x.dim() == 4 else F.linear(x, weight=weight))
        if step == "shared block":
            return act(self.shared(act(self.shared(x))))
        if step == "residual":
            return x + act(layer(x))
        if step == "gate":
            return x * torch.sigmoid(layer(x))
        if step == "view":
            return x.reshape(x.size(0), -1).view(x.shape).transpose(0, 1).transpose(0, 1)
        if step == "in place":
            y = x * 1.0
            y += 0.1
            y[:, 0] = y[:, 0] * 0.5
            return y
        if step == "buffer":
            return x * self.scale.view(-1, *([1] * (x.dim() - 2)))
        if step == "part":
            first, rest = x.split([1, x.size(1) - 1], dim=1)
            return act(layer(torch.cat([rest, first], dim=1)))
        if step == "detached":
            with torch.no_grad():
                spread = x.detach().abs().mean()
            return x / (1.0 + spread)
        if step == "noise":
            return x + 0.01 * torch.randn_like(x) if self.training else x
        return act(layer(x)) if isinstance(layer, (nn.Linear, nn.Conv2d)) else layer(x)


@dataclass(frozen=True)
class Case:
    """A plan, the model that it gives, and inputs for it."""

    plan: Plan

    def model(self) -> RandomModel:
        """The model, with the same weights each time."""
        torch.manual_seed(self.plan.seed)
        model = RandomModel(self.plan)
        if self.plan.double:
            model = model.double()
        for name, module in model.layers.items():
            if self.plan.partly_eval and int(name) % 3 == 0:
                module.eval()
        return model

    def inputs(self, batch: int) -> Tensor:
        """Inputs of `batch` samples."""
        generator = torch.Generator().manual_seed(batch)
        dtype = torch.float64 if self.plan.double else torch.float32
        size = (batch, self.plan.channels, *(self.plan.image or ()))
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)


@st.composite
def cases(draw: st.DrawFn, double: bool | None = None) -> Case:
    """Random cases; `double` fixes the precision."""
    steps = draw(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), min_size=1, max_size=8))
    image = draw(st.none() | st.tuples(st.integers(3, 7), st.integers(3, 7)))
    return Case(
        Plan(
            steps=tuple(steps),
            channels=draw(st.integers(2, 9)),
            image=image,
            double=draw(st.booleans()) if double is None else double,
            seed=draw(st.integers(0, 99)),
            partly_eval=draw(st.booleans()),
        )
    )
