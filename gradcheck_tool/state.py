"""Leave no trace: a model, and the random states, are put back to the bit after whatever ran in between.

`preserved` puts back what a forward pass may change; `on_meta` lends a model parameters and buffers without data;
`training_mode` reads a model as it will be trained.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradcheck_tool.holdings import Container, Holdings, held_by


def _refill(container: Container, items: Any) -> None:
    if isinstance(container, tuple) or (not container and not items):
        return
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(items)
    else:
        container.extend(items)


@dataclass(frozen=True)
class _Kept:
    """A tensor and all that a forward pass can change of it: the storage that it had, a copy of its data where the
    data may change, its gradient likewise, its version (an autograd graph that the user holds compares it), its hooks
    and attributes."""

    tensor: Tensor
    data: Tensor | None
    copy: Tensor | None
    version: int | None
    requires_grad: bool
    grad: Tensor | None
    grad_copy: Tensor | None
    grad_version: int | None
    hooks: dict[int, Any] | None
    attributes: dict[str, Any]

    @classmethod
    def of(cls, tensor: Tensor, with_data: bool) -> _Kept:
        with_data = with_data and tensor.device.type != "meta" and tensor.layout == torch.strided
        grad = tensor.grad if tensor.is_leaf else None
        data = tensor.detach() if with_data else None
        hooks = tensor._backward_hooks
        return cls(
            tensor,
            data,
            None if data is None else data.clone(memory_format=torch.preserve_format),
            _version(tensor),
            tensor.requires_grad,
            grad,
            grad.detach().clone() if with_data and grad is not None else None,
            None if grad is None else _version(grad),
            None if hooks is None else hooks.copy(),
            tensor.__dict__.copy(),
        )

    def restore(self) -> None:
        tensor = self.tensor
        if self.data is not None and self.copy is not None:
            self.data.copy_(self.copy)
            if _layout(tensor) != _layout(self.data):
                tensor.data = self.data
            _set_version(tensor, self.version)
        if tensor.__dict__ != self.attributes:
            _refill(tensor.__dict__, self.attributes)
        if not tensor.is_leaf:
            return
        if tensor.requires_grad != self.requires_grad:
            tensor.requires_grad_(self.requires_grad)
        if tensor.grad is not self.grad:
            tensor.grad = self.grad
        if self.grad is not None and self.grad_copy is not None:
            self.grad.copy_(self.grad_copy)
            _set_version(self.grad, self.grad_version)
        if tensor._backward_hooks and tensor._backward_hooks != self.hooks:
            _refill(tensor._backward_hooks, self.hooks or {})


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _set_version(tensor: Tensor, version: int | None) -> None:
    if version is not None and tensor._version != version:
        torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _generator(value: Any) -> tuple[Callable[[Any], Any], Any]:
    """(how to put a state back, the state) of a generator of random numbers."""
    if isinstance(value, random.Random):
        return value.setstate, value.getstate()
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state"), value.bit_generator.state
    return value.set_state, value.get_state()


def generators_of(model: nn.Module) -> list[Any]:
    """The generators of Python and numpy that the modules of a model hold themselves."""
    is_one: dict[type, bool] = {}
    found = []
    for module in model.modules():
        for value in vars(module).values():
            cls = type(value)
            if cls not in is_one:
                is_one[cls] = issubclass(cls, (random.Random, np.random.RandomState, np.random.Generator))
            if is_one[cls]:
                found.append(value)
    return found


def states_of(generators: list[Any]) -> list[Any]:
    """The states of the generators that Python code draws from: Python's and numpy's own, and those given."""
    name, keys, *position = np.random.get_state()
    return [random.getstate(), name, np.asarray(keys).tobytes(), position, *map(_state_of, generators)]


def _state_of(generator: random.Random | np.random.RandomState | np.random.Generator) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    own = generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()
    return repr(own)  # arrays of numbers, which compare one by one


@contextmanager
def random_states() -> Iterator[None]:
    """Puts back the random states of torch (CPU and, once started, CUDA), numpy and Python."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)


@contextmanager
def preserved(model: nn.Module, values: bool = False) -> Iterator[Holdings]:
    """Puts `model` back as it was: modes, hooks, attributes, the built-in containers reachable from its modules, the
    values of tensors that are plain attributes, generators, and the global random states. Yields what it holds.

    Args:
        model: the model that will run; nothing of it is copied but containers and plain tensors.
        values: also the data and `.grad` of parameters and buffers, for a pass on real data. This takes the memory of
            one more copy of them.
    """
    registered = {id(tensor) for tensor in model.parameters()} | {id(tensor) for tensor in model.buffers()}
    held = held_by(model)
    changeable = [container for container in held.containers if not isinstance(container, tuple)]
    copies = [(container, container.copy() if container else None) for container in changeable]
    distinct = {id(tensor): tensor for tensor in held.tensors()}
    tensors = [_Kept.of(tensor, values or key not in registered) for key, tensor in distinct.items()]
    generators = [_generator(generator) for generator in held.generators]
    with random_states():
        try:
            yield held
        finally:
            for container, copy in copies:
                _refill(container, copy or ())
            with torch.no_grad():
                for kept in tensors:
                    kept.restore()
            for put_back, state in generators:
                put_back(state)


def meta_like(tensor: Tensor) -> Tensor:
    """A tensor without data, of the shape, strides, dtype and kind (parameter or not) of `tensor`."""
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty.requires_grad_(tensor.requires_grad)


def _entries(container: Container) -> list[tuple[Any, Any]]:
    """The (key, value) pairs of a dict or list, by which a value can be replaced; others have none."""
    if isinstance(container, dict):
        return list(container.items())
    return list(enumerate(container)) if isinstance(container, list) else []


@contextmanager
def on_meta(model: nn.Module, held: Holdings | None = None) -> Iterator[dict[int, Tensor]]:
    """Lends `model` tensors on the meta device in the place of its parameters, buffers and plain tensor attributes,
    and puts its own back. Use inside `preserved`, which knows what is `held`. Yields the lent tensors by the id of the
    model's own.

    Tied tensors stay tied. Costs no memory and linear time.
    """
    lent: dict[int, Tensor] = {}
    replaced: list[tuple[Any, Any, Tensor]] = []
    try:
        for container in (held or held_by(model)).holding_tensors:
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
def in_mode(model: nn.Module, training: bool, whole: bool = False) -> Iterator[None]:
    """Puts `model` in the mode asked for, and back. One that is in it already keeps the parts that its owner has put in
    the other (a frozen backbone's batch norms), unless all of it is asked for as a `whole`."""
    modes = [(module, module.training) for module in model.modules()]
    if whole or model.training != training:
        model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def training_mode(model: nn.Module) -> AbstractContextManager[None]:
    """Reads `model` as it will be trained."""
    return in_mode(model, True)
