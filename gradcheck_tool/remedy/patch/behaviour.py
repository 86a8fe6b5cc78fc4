"""What a model with new norms does, measured to be compared: the rewritten graph here, the patched source there.

Both run with the same weights, fresh norms, the same inputs and the same seeds, forward in both modes and backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradcheck_tool.border import users_code
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.inputs.draw import model_device
from gradcheck_tool.probing.backward import floating_in, roots_of
from gradcheck_tool.probing.draws import seed_all
from gradcheck_tool.probing.magnitudes import norm
from gradcheck_tool.structures import map_tensors


@dataclass(frozen=True)
class Behaviour:
    """What came out: floating outputs in training and in evaluation mode; after the training pass the buffers by key,
    and of the new norms, of each that was `called`, in the order of the calls, the statistics and the weight; the norm
    of the gradient of each parameter by key (none at all where the outputs have no gradient). And the kind of device
    that it ran on."""

    device: str
    training: Sequence[Tensor]
    evaluation: Sequence[Tensor]
    buffers: Mapping[str, Tensor]
    called: Sequence[str]
    statistics: Sequence[Mapping[str, Tensor]]
    gradients: Mapping[str, float]


def behaviour(model: nn.Module, norms: Mapping[str, nn.Module], inputs: Inputs, seed: int) -> Behaviour:
    """Runs `model`, whose weights stay, but whose modes, buffers and norms' statistics change.

    Args:
        norms: the new norms. While the model runs, their statistics are those of the last batch alone.

    Raises:
        GradtoolError: the model raises.
    """
    with _last_batch_alone(norms):
        model.train()
        with _calls_of(norms) as called:
            output = run(model, inputs, seed)
            gradients = _gradients(model, output, seed)
        training = [tensor.detach().cpu().clone() for tensor in floating_in(output)]
        buffers = _buffers(model)
        statistics = [_statistics(norms[name]) for name in called]
        model.eval()
        evaluation = [tensor.detach().cpu().clone() for tensor in floating_in(run(model, inputs, seed))]
    return Behaviour(model_device(model).type, training, evaluation, buffers, called, statistics, gradients)


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {key: buffer.detach().cpu().clone() for key, buffer in module.named_buffers(remove_duplicate=False)}


def _statistics(norm: nn.Module) -> dict[str, Tensor]:
    """The buffers of a norm, and its weight, by which those are told apart that keep no statistics."""
    weight = {key: weight.detach().cpu().clone() for key, weight in norm.named_parameters() if key == "weight"}
    return _buffers(norm) | weight


def run(model: nn.Module, inputs: Inputs, seed: int) -> object:
    """What `model` returns, in the mode that it is in. It may take a gradient itself: of an energy by positions, of a
    solution by its coordinates. The inputs stay as they are, whatever is written into them."""
    args, kwargs = map_tensors(
        (inputs.args, dict(inputs.kwargs)), lambda t: t.detach().clone().requires_grad_(t.requires_grad)
    )
    seed_all(seed)
    with users_code(f"forward of {type(model).__name__}"), torch.enable_grad():
        return model(*args, **kwargs)


def _gradients(model: nn.Module, output: object, seed: int) -> dict[str, float]:
    named = {key: p for key, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    roots = roots_of(output, None, None, seed)
    if not named or not roots:
        return {}
    with users_code(f"backward of {type(model).__name__}"):
        found = torch.autograd.grad(roots, list(named.values()), allow_unused=True)
    return {key: 0.0 if grad is None else norm(grad) for key, grad in zip(named, found, strict=True)}


@contextmanager
def _calls_of(norms: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """The names of the norms that are called, in the order of the calls."""
    called: list[str] = []
    hooks = [norm.register_forward_hook(lambda *_, name=name: called.append(name)) for name, norm in norms.items()]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _last_batch_alone(norms: Mapping[str, nn.Module]) -> Iterator[None]:
    """Statistics that one batch moves by a tenth would hide nine tenths of a difference."""
    momenta = [(module, module.momentum) for module in norms.values() if hasattr(module, "momentum")]
    for module, _ in momenta:
        module.momentum = 1.0  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, momentum in momenta:
            module.momentum = momentum
