"""A hypothesis strategy that builds random models: up to ten steps of `random_steps`, on features, sequences, signals,
images or volumes, in three precisions, in training, in evaluation or mixed, with frozen, hooked and parametrized parts.

`cases()` draws a `Case`: a model, and inputs for any batch size. The same draw builds the same model.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from random_features import features
from random_layers import Functional, Shape
from random_steps import STEPS
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, weight_norm

from gradcheck_tool.structures import tensors_in

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
WEIGHT_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


# -- what is done to a step --------------------------------------------------------------------------------------------


class Bounded(nn.Module):
    """A parametrization with nothing of its own."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch.tanh(weight)


def halve_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 0.5


def look_at_output(module: nn.Module, args: Any, output: Tensor) -> None:
    output.detach().mean()


def shift_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0] + 0.1, *args[1:])


def double_gradient(grad: Tensor) -> Tensor:
    return grad * 2


def look_at_gradient(module: nn.Module, grad_input: Any, grad_output: Any) -> None:
    pass


def layer_of(step: nn.Module) -> nn.Module:
    """The first weight layer of a step; the step itself where it has none, or is the layer."""
    return next((module for module in step.modules() if isinstance(module, WEIGHT_LAYERS)), step)


def weighted(register: Callable[[nn.Module], Any]) -> Callable[[nn.Module], None]:
    """Does `register` to the layer of a step, where it has a weight that has not been tied."""

    def decorate(step: nn.Module) -> None:
        layer = layer_of(step)
        names = [name for name, p in step.named_parameters(remove_duplicate=False) if p is getattr(layer, "weight", 0)]
        if len(names) == 1 and isinstance(layer, (*WEIGHT_LAYERS, Functional)):
            register(layer)

    return decorate


def frozen(step: nn.Module) -> None:
    step.requires_grad_(False)


def without_bias_gradient(step: nn.Module) -> None:
    for name, parameter in step.named_parameters():
        parameter.requires_grad_(not name.endswith("bias"))


def hook_parameter(step: nn.Module) -> None:
    for parameter in list(step.parameters())[:1]:
        parameter.register_hook(double_gradient)


def with_gradients(step: nn.Module) -> None:
    for parameter in step.parameters():
        parameter.grad = torch.ones_like(parameter)


DECORATIONS: dict[str, Callable[[nn.Module], Any]] = {
    "frozen": frozen,
    "frozen bias": without_bias_gradient,
    "eval": lambda step: step.eval(),
    "train": lambda step: step.train(),
    "hook that changes the output": lambda step: layer_of(step).register_forward_hook(halve_output),
    "hook on a step": lambda step: step.register_forward_hook(halve_output),
    "hook that looks": lambda step: layer_of(step).register_forward_hook(look_at_output),
    "pre-hook": lambda step: layer_of(step).register_forward_pre_hook(shift_input),
    "backward hook": lambda step: layer_of(step).register_full_backward_hook(look_at_gradient),
    "hook on a parameter": hook_parameter,
    "weight norm": weighted(parametrizations.weight_norm),
    "spectral norm": weighted(parametrizations.spectral_norm),
    "bounded": weighted(lambda layer: parametrize.register_parametrization(layer, "weight", Bounded())),
    "weight norm by hooks": weighted(weight_norm),
    "gradients": with_gradients,
}


_MEANINGLESS = {
    ("checkpointed", "spectral norm"),  # stepped once more when backward runs forward again, which a graph does not
    ("borrowed", "weight norm by hooks"),  # computed when the layer is called, which it is not: trains only once
}


# -- the model ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a model is built from: data, so that the same plan gives the same model.

    A step is (its name, its choice, what is done to it or None).
    """

    steps: tuple[tuple[str, int, str | None], ...]
    shape: Shape
    dtype: str
    training: bool
    two_inputs: bool
    gives: str
    seed: int


class RandomModel(nn.Module):
    """Goes through the steps of a plan, and ends in a head."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        shape, self.gives = plan.shape, plan.gives
        steps = []
        for name, choice, _ in plan.steps:
            step = STEPS[name][0](shape, choice)
            shape = step.out
            steps.append(step)
        self.first = plan.shape.first
        self.steps = nn.ModuleList(steps) if plan.seed % 2 else nn.Sequential(*steps)
        self.head = nn.Linear(shape.channels, 3)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Any:
        if shift is not None:
            x = x + shift
        if isinstance(self.steps, nn.Sequential):
            x = self.steps(x)
        else:
            for step in self.steps:
                x = step(x)
        if x.dim() > 2:
            x = x.flatten(2).mean(-1) if self.first else x.mean(1)
        y = self.head(x)
        if self.gives == "tuple":
            return y, F.relu(x)
        return {"logits": y, "sizes": [y.size(1)]} if self.gives == "dict" else y


@dataclass(frozen=True)
class Case:
    """A plan, the model that it gives, and inputs for it."""

    plan: Plan

    def model(self, dtype: str | None = None) -> RandomModel:
        """The model, with the same weights each time; in another precision where `dtype` says so."""
        plan = self.plan
        torch.manual_seed(plan.seed)
        model = RandomModel(plan).to(DTYPES[dtype or plan.dtype]).train(plan.training)
        for step, (name, _, decoration) in zip(model.steps, plan.steps, strict=True):
            if decoration is not None and (name, decoration) not in _MEANINGLESS:
                DECORATIONS[decoration](step)
        return model

    def inputs(self, batch: int, dtype: str | None = None) -> tuple[Tensor, ...]:
        """Inputs of `batch` samples."""
        generator = torch.Generator().manual_seed(batch)
        size = (2 if self.plan.two_inputs else 1, batch, *self.plan.shape.dims)
        drawn = torch.randn(size, generator=generator, dtype=torch.float64)
        return tuple(part.clone() for part in drawn.to(DTYPES[dtype or self.plan.dtype]))

    def runs(self) -> bool:
        """Whether the model runs and trains at all, down to its inputs, whose gradients the properties ask for: torch
        forbids in-place operations on what a backward pass needs and beside some hooks, and instance norm of one value.
        """
        inputs = tuple(tensor.requires_grad_() for tensor in self.inputs(4))
        try:
            sum(tensor.sum() for tensor in tensors_in(self.model().train()(*inputs))).backward()
        except (RuntimeError, ValueError):
            return False
        return True

    @cached_property
    def features(self) -> frozenset[str]:
        """What the model really has: read off the modules, and off a run."""
        return features(self.model(), self.inputs(4))


_STEPS, _OFTEN = tuple(STEPS), tuple(weight for _, weight in STEPS.values())
_PLAIN = 24
"""So many steps have nothing done to them, for each that has one certain thing done."""

_SHAPES = {(0, False): 4, (1, False): 3, (1, True): 2, (2, True): 4, (3, True): 1}
"""(dimensions, whether the channels come first), and how often."""


def rolled(dice: random.Random) -> Plan:
    """A plan by the dice. hypothesis alone draws the same few things again and again, and others never."""

    def step() -> tuple[str, int, str | None]:
        (name,) = dice.choices(_STEPS, _OFTEN)
        (decoration,) = dice.choices([None, *DECORATIONS], [_PLAIN] + [1] * len(DECORATIONS))
        return name, dice.randrange(24), decoration

    ((rank, first),) = dice.choices(list(_SHAPES), list(_SHAPES.values()))
    shortest, longest = {0: (1, 1), 1: (1, 9), 2: (2, 7), 3: (2, 4)}[rank]
    return Plan(
        steps=tuple(step() for _ in range(dice.randint(1, 10))),
        shape=Shape(dice.randint(2, 9), tuple(dice.randint(shortest, longest) for _ in range(rank)), first),
        dtype=dice.choices(list(DTYPES), [5, 3, 2])[0],
        training=dice.random() < 0.8,
        two_inputs=dice.random() < 0.2,
        gives=dice.choices(["tensor", "tuple", "dict"], [3, 1, 1])[0],
        seed=dice.randrange(100),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans by the dice, of which hypothesis takes things away where it shrinks: steps, and what is special."""
    plan = rolled(random.Random(draw(st.integers(0, 2**63))))
    # One byte for each of them, and 0 takes it away. One draw, as hypothesis would else make new examples by changing
    # single bytes of one that it has: the same model again and again, with the same few steps taken away.
    switches = iter(draw(st.binary(min_size=25, max_size=25)))

    def kept() -> bool:
        return next(switches) > 0

    steps = [(name, choice, decoration if kept() else None) for name, choice, decoration in plan.steps if kept()]
    return Plan(
        steps=tuple(steps),
        shape=plan.shape,
        dtype=plan.dtype if kept() else "float32",
        training=plan.training or not kept(),
        two_inputs=plan.two_inputs and kept(),
        gives=plan.gives if kept() else "tensor",
        seed=plan.seed,
    )


def cases() -> st.SearchStrategy[Case]:
    """Random cases whose models run."""
    return plans().map(Case).filter(Case.runs)
