"""What a backward pass starts from: the user's loss, or a random projection of everything that the model returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.probing.magnitudes import norm, pieces
from gradcheck_tool.structures import tensors_in

Loss = Callable[[Any, Any], Any]
"""`loss_fn(output, targets)`."""

Signs = dict[int, tuple[float, Tensor]]
"""By the id of a parameter, the norm of its gradient, and its signs: -1, 0 or 1, one byte each; 0 for NaN."""


def floating_in(output: Any) -> list[Tensor]:
    """The tensors in a model's output of which a gradient can be taken."""
    return [tensor for tensor in tensors_in(output) if tensor.is_floating_point() or tensor.is_complex()]


def roots_of(output: Any, loss_fn: Loss | None, targets: Any, seed: int) -> list[Tensor]:
    """The real numbers to differentiate: with `loss_fn` the loss alone; without it the sum of every floating output
    that requires a gradient, weighed by standard normal numbers from `seed`. A single number that the model returns is
    its loss.

    Raises:
        GradtoolError: there is no floating-point output, or `loss_fn` raises or returns no tensor.
    """
    floating = floating_in(output)
    if not floating:
        raise GradtoolError(
            f"the model returned no floating-point tensor ({kind_of(output)})",
            hint="return the logits, not classes, so that a gradient can be taken",
        )
    if loss_fn is not None:
        try:
            loss = loss_fn(output, targets)
        except Exception as error:  # the border to the user's code
            raise blamed(error, "loss_fn(output, targets)") from error
        if not isinstance(loss, Tensor):
            raise GradtoolError(f"loss_fn returned {type(loss).__name__}, not a tensor", hint="return the loss itself")
        return [loss.sum()]
    roots = [tensor for tensor in floating if tensor.requires_grad]
    if len(roots) == 1 and roots[0].dim() == 0 and not roots[0].is_complex():
        return roots
    generator = torch.Generator().manual_seed(seed)
    return [_projection(root, generator) for root in roots]


def grad_norms(roots: list[Tensor], by: list[Tensor], signs: Signs | None = None) -> dict[int, float]:
    """The norms of the gradients of `roots` by the tensors `by`, by their id; one that gets no gradient is left out.
    Those by parameters go into `signs` too, with their signs, where that is given.

    Raises:
        RuntimeError: autograd's own.
    """
    norms: dict[int, float] = {}
    leaves = {id(tensor) for tensor in by if tensor.is_leaf}

    def keep(key: int, grad: Tensor) -> None:
        norms[key] = norm(grad)
        if signs is not None and key in leaves:
            signs[key] = norms[key], _signs(grad.detach())

    read_grads(roots, by, keep)
    return norms


def _signs(grad: Tensor) -> Tensor:
    if grad.layout != torch.strided:
        return grad.sign().nan_to_num_().to(torch.int8)
    found = torch.empty_like(grad, dtype=torch.int8)
    for part, signs in zip(pieces(grad), pieces(found), strict=True):
        signs.copy_(part.sign().nan_to_num_())
    return found


def read_grads(
    roots: list[Tensor],
    by: Sequence[Tensor],
    keep: Callable[[int, Tensor], None],
) -> None:
    """Hands the gradients of `roots` by the tensors `by` to `keep(id of the tensor, gradient)`, once a tensor, however
    often `by` names it.

    That of a parameter is handed over as it comes and put away, so that only one of them lies in memory at a time.

    Raises:
        RuntimeError: autograd's own.
    """
    by = list({id(tensor): tensor for tensor in by}.values())
    handles = [leaf.register_hook(partial(_take, keep, id(leaf))) for leaf in by if leaf.is_leaf]
    try:
        grads = torch.autograd.grad(roots, by, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for tensor, grad in zip(by, grads, strict=True):
        if grad is not None and not tensor.is_leaf:
            keep(id(tensor), grad)


def _take(keep: Callable[[int, Tensor], None], key: int, grad: Tensor) -> Tensor:
    """A leaf's hook (elsewhere the gradient goes on) that puts one zero, seen everywhere, in place of its gradient."""
    keep(key, grad)
    return grad.new_zeros(()).expand(grad.shape) if grad.layout == torch.strided else grad


def _projection(root: Tensor, generator: torch.Generator) -> Tensor:
    """The real inner product with standard normal numbers, complex ones for a complex output; these are its gradient.
    autograd that is handed them as cotangents imports sympy, which takes a quarter of a second."""
    dtype = torch.complex64 if root.is_complex() else torch.float32
    weights = torch.randn(root.shape, generator=generator, dtype=dtype).to(root)
    if root.is_complex():
        return (torch.view_as_real(root.resolve_conj()) * torch.view_as_real(weights)).sum()
    return (root * weights).sum()


def kind_of(output: Any) -> str:
    """ "tensor", "dict", "tuple", "list", or the name of the class."""
    if isinstance(output, Tensor):
        return "tensor"
    for kind in (dict, tuple, list):
        if type(output) is kind:
            return kind.__name__
    return type(output).__name__
