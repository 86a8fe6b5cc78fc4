"""Leave no trace: a model, and the random states, are put back to the bit after whatever ran in between.

`preserved` puts back what a forward pass may change; `on_meta` lends a model parameters and buffers without data;
`training_mode` reads a model as it will be trained.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Container = dict[Any, Any] | list[Any] | set[Any] | deque[Any]


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list, set, deque))


def _containers(model: nn.Module) -> list[Container]:
    """The `__dict__` of every module of `model` and every built-in container reachable from them."""
    found: list[Container] = [module.__dict__ for module in model.modules()]
    seen = {id(container) for container in found}
    for container in found:  # grows while it is walked
        values = container.values() if isinstance(container, dict) else container
        for value in values:
            if _is_container(value) and id(value) not in seen:
                seen.add(id(value))
                found.append(value)
    return found


def _entries(container: Container) -> list[tuple[Any, Any]]:
    """The (key, value) pairs of a dict or list, by which a value can be replaced; a set or deque has none."""
    if isinstance(container, dict):
        return list(container.items())
    return list(enumerate(container)) if isinstance(container, list) else []


def _refill(container: Container, items: Any) -> None:
    if not container and not items:
        return
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(items)
    else:
        container.extend(items)


@dataclass(frozen=True)
class _Kept:
    """A tensor, the storage that it had, a copy of its data where the data may change, and its gradient likewise."""

    tensor: Tensor
    data: Tensor
    copy: Tensor | None
    requires_grad: bool
    grad: Tensor | None
    grad_copy: Tensor | None

    @classmethod
    def of(cls, tensor: Tensor, with_data: bool) -> _Kept:
        with_data = with_data and tensor.device.type != "meta" and tensor.layout == torch.strided
        grad = tensor.grad if tensor.is_leaf else None
        data = tensor.detach()
        return cls(
            tensor,
            data,
            data.clone(memory_format=torch.preserve_format) if with_data else None,
            tensor.requires_grad,
            grad,
            grad.detach().clone() if with_data and grad is not None else None,
        )

    def restore(self) -> None:
        tensor = self.tensor
        if self.copy is not None:
            self.data.copy_(self.copy)
            if tensor.data_ptr() != self.data.data_ptr() or tensor.shape != self.data.shape:
                tensor.data = self.data
        if not tensor.is_leaf:
            return
        if tensor.requires_grad != self.requires_grad:
            tensor.requires_grad_(self.requires_grad)
        if tensor.grad is not self.grad:
            tensor.grad = self.grad
        if self.grad is not None and self.grad_copy is not None:
            self.grad.copy_(self.grad_copy)


@contextmanager
def random_states() -> Iterator[None]:
    """Puts back the random states of torch (CPU and, once started, CUDA), numpy and Python."""
    numpy = sys.modules.get("numpy")
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)


@contextmanager
def preserved(model: nn.Module, values: bool = False) -> Iterator[None]:
    """Puts `model` back as it was: modes, hooks, attributes, the built-in containers reachable from its modules, the
    values of tensors that are plain attributes, generators, and the global random states.

    Args:
        model: the model that will run; nothing of it is copied but containers and plain tensors.
        values: also the data and `.grad` of parameters and buffers, for a pass on real data. This takes the memory of
            one more copy of them.
    """
    registered = {id(tensor) for tensor in model.parameters()} | {id(tensor) for tensor in model.buffers()}
    containers = _containers(model)
    copies = [(container, container.copy() if container else None) for container in containers]
    tensors: dict[int, _Kept] = {}
    generators: dict[int, tuple[Any, Any]] = {}
    for container in containers:
        for value in container.values() if isinstance(container, dict) else container:
            if isinstance(value, Tensor):
                if id(value) not in tensors:
                    tensors[id(value)] = _Kept.of(value, values or id(value) not in registered)
            elif isinstance(value, random.Random):
                generators[id(value)] = (value.setstate, value.getstate())
            elif isinstance(value, torch.Generator):
                generators[id(value)] = (value.set_state, value.get_state())
    with random_states():
        try:
            yield
        finally:
            for container, copy in copies:
                _refill(container, copy or ())
            with torch.no_grad():
                for kept in tensors.values():
                    kept.restore()
            for put_back, state in generators.values():
                put_back(state)


def meta_like(tensor: Tensor) -> Tensor:
    """A tensor without data, of the shape, strides, dtype and kind (parameter or not) of `tensor`."""
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty.requires_grad_(tensor.requires_grad)


@contextmanager
def on_meta(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Lends `model` tensors on the meta device in the place of its parameters, buffers and plain tensor attributes,
    and puts its own back. Use inside `preserved`. Yields the lent tensors by the id of the model's own.

    Tied tensors stay tied. Costs no memory and linear time.
    """
    lent: dict[int, Tensor] = {}
    replaced: list[tuple[Any, Any, Tensor]] = []
    try:
        for container in _containers(model):
            for key, value in _entries(container):
                if not isinstance(value, Tensor) or value.device.type == "meta":
                    continue
                stand_in = lent.get(id(value))
                if stand_in is None:
                    stand_in = lent[id(value)] = meta_like(value)
                container[key] = stand_in  # type: ignore[index]
                replaced.append((container, key, value))
        yield lent
    finally:
        for container, key, value in replaced:
            container[key] = value


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Reads `model` as it will be trained: a model in evaluation mode is put in training mode as a whole and back; one
    in training mode keeps the parts that its owner has put in evaluation mode (a frozen backbone's batch norms)."""
    modes = [(module, module.training) for module in model.modules()]
    if not model.training:
        model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
