"""Objects that hold tensors, and numbers of numpy, in a captured graph."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct

WIDTH = 4


class Cache:
    """What language models return beside their logits: tensors in an object that no structure is known of."""

    def __init__(self) -> None:
        self.keys: list[tuple[Tensor, Tensor]] = []
        self.itself = self
        self.name = "cache"


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Tensor) -> None:
        self.value = value


class ReturnsCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = self.linear(x).relu()
        cache = Cache()
        cache.keys.append((h, x))
        return {"y": 2 * h, "cache": cache, "slotted": Slotted(h)}


@pytest.mark.parametrize("made", ["captured", "copied", "pickled"])
def test_an_object_that_holds_tensors_is_filled_with_those_of_each_run(made: str) -> None:
    model = ReturnsCache()
    graph: Any = gct.capture(model, torch.randn(3, WIDTH))
    if made == "copied":
        graph = copy.deepcopy(graph)
    if made == "pickled":
        graph = pickle.loads(pickle.dumps(graph))
    first, x = graph(torch.randn(3, WIDTH)), torch.randn(5, WIDTH)
    found, wanted = graph(x), model(x)
    assert torch.equal(found["cache"].keys[0][0], wanted["cache"].keys[0][0])
    assert found["cache"].keys[0][1] is x
    assert torch.equal(found["slotted"].value, found["cache"].keys[0][0])
    assert (found["cache"].itself, found["cache"].name) == (found["cache"], "cache")
    assert found["cache"] is not first["cache"]
    found["cache"].keys[0][0].sum().backward()
    assert any(parameter.grad is not None for parameter in graph.parameters())


def test_a_model_that_returns_such_an_object_can_be_fixed() -> None:
    class Deep(ReturnsCache):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*(part for _ in range(5) for part in (nn.Linear(WIDTH, WIDTH), nn.Tanh())))

        def forward(self, x: Tensor) -> dict[str, Any]:
            return super().forward(self.body(x))

    result = gct.fix(Deep(), torch.randn(8, WIDTH))
    assert len(result.plan) == 5
    assert result.model(torch.randn(2, WIDTH))["cache"].keys[0][0].shape == (2, WIDTH)


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.int64(2), np.bool_(True)])
def test_a_number_of_numpy_is_a_number(number: Any) -> None:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.linear(x).mul(number)
            return y

    model, x = Scales(), torch.randn(2, WIDTH)
    assert torch.equal(gct.capture(model, torch.randn(3, WIDTH))(x), model(x))
