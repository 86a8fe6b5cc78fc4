"""What a change costs, measured: parameters, the time of a training step, and the memory held for the backward pass."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradcheck_tool.inputs import Inputs
from gradcheck_tool.state import preserved
from gradcheck_tool.structures import tensors_in

ROUNDS, MOST_ROUNDS, LEAST_SECONDS = 7, 101, 0.5
"""Steps of each model, in turn, so that what else the machine does slows both: 7, and of small models more, until they
have taken half a second."""


@dataclass(frozen=True)
class Cost:
    """`parameters` are the elements added (negative: removed). `step_time_ratio` is the time of a forward and backward
    pass after over that before, each the least of several rounds, since what else a machine does only adds to it;
    `memory_ratio` likewise of the bytes of activations saved for the backward pass. A ratio is None where there is
    nothing to measure: no gradient, or weights on meta."""

    parameters: int
    step_time_ratio: float | None
    memory_ratio: float | None

    def __str__(self) -> str:
        sign = "+" if self.parameters >= 0 else "−"
        parts = [f"{sign}{abs(self.parameters):,} parameters"]
        if self.step_time_ratio is not None:
            parts.append(f"step time × {self.step_time_ratio:.2f}")
        if self.memory_ratio is not None:
            parts.append(f"memory × {self.memory_ratio:.2f}")
        return ", ".join(parts)


def cost(before: nn.Module, after: nn.Module, inputs: Inputs) -> Cost:
    """Measures two models on the same inputs in training mode. Both are left as they were, to the bit.

    Args:
        before: the model, or better its captured graph, so that nothing but the change is measured.
        after: the changed one; it may share tensors with `before`.
        inputs: a batch for both.
    """
    parameters = _elements(after) - _elements(before)
    if any(tensor.is_meta for model in (before, after) for tensor in model.parameters()):
        return Cost(parameters, None, None)
    with ExitStack() as stack:
        for model in (before, after):
            stack.enter_context(preserved(model, values=True))
            model.train()
        memory = [_saved_bytes(model, inputs) for model in (before, after)]
        if None in memory:
            return Cost(parameters, None, None)
        times: list[tuple[float, float]] = []  # that of the memory was the first step of each, which is not timed
        while len(times) < ROUNDS or (len(times) < MOST_ROUNDS and sum(map(sum, times)) < LEAST_SECONDS):
            times.append((_step_time(before, inputs), _step_time(after, inputs)))
    first_time, second_time = (min(column) for column in zip(*times, strict=True))
    first, second = memory
    ratio = second / first if first and second is not None else None
    return Cost(parameters, second_time / first_time if first_time else None, ratio)


def _elements(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _forward(model: nn.Module, inputs: Inputs) -> Tensor | None:
    """The sum of all that the model puts out and that depends on its parameters; None where nothing does."""
    for parameter in model.parameters():
        parameter.grad = None
    outputs = model(*inputs.args, **inputs.kwargs)
    sums = [tensor.real.sum().float() for tensor in tensors_in(outputs) if tensor.requires_grad]
    return torch.stack([part.to(sums[0].device) for part in sums]).sum() if sums else None


def _saved_bytes(model: nn.Module, inputs: Inputs) -> int | None:
    """The bytes of all storage that autograd keeps for the backward pass, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}  # kept alive, so that no address is used again

    def pack(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _forward(model, inputs)
    if loss is None:
        return None
    loss.backward()
    return sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own)


def _step_time(model: nn.Module, inputs: Inputs) -> float:
    _synchronize(model)
    start = time.perf_counter()
    loss = _forward(model, inputs)
    assert loss is not None
    loss.backward()
    _synchronize(model)
    return time.perf_counter() - start


def _synchronize(model: nn.Module) -> None:
    first = next(model.parameters(), None)
    if first is not None and first.is_cuda:
        torch.cuda.synchronize(first.device)
