"""New batch norms that start as the identity: what a pretrained network computes in evaluation mode stays as it is.

In evaluation batch norm computes γ (x − m) / √(v + ε) + β from its stored mean m and variance v. With γ = √(v + ε) and
β = m that is x, whatever m and v are; taken from a batch, they are also what training will find, so that it starts
near the old function too. Norms behind one that is the identity see what they would see without it: one pass through
the network gives the statistics of all. (The inverse of folding batch norm into a layer: Jacob et al. 2018,
Quantization and Training of Neural Networks, section 3.2.)

A norm that takes the statistics of each sample has no such γ and β: no numbers give back a mean and a variance that
differ from sample to sample.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.holdings import held_by
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.remedy.patch.behaviour import run
from gradcheck_tool.results import Insertion
from gradcheck_tool.state import in_mode, preserved
from gradcheck_tool.structures import tensors_in


def require_identity(plan: Sequence[Insertion]) -> None:
    """That every norm of `plan` can start as the identity.

    Raises:
        GradtoolError: one cannot.
    """
    for insertion in plan:
        if not insertion.norm.startswith("BatchNorm"):
            raise GradtoolError(
                f"{insertion} would change the function: it takes the statistics of each sample, which no γ and β undo",
                hint="only batch norm can keep it: --norm batch",
            )


def kept_function(fixed: CapturedModule, names: Sequence[str], inputs: Inputs, seed: int) -> CapturedModule:
    """A copy of `fixed`, which shares its other tensors, in which the batch norms `names` are the identity in
    evaluation mode, with the statistics of `inputs` in training mode (in evaluation, for norms that training does not
    call).

    Args:
        fixed: with new batch norms in it; left as it was.
        names: of the new batch norms.
        inputs: a batch like those of training.
        seed: of dropout and whatever else is drawn.

    Raises:
        GradtoolError: the model does not run, or a norm sees a value that is not finite.
    """
    new = {id(tensor) for name in names for tensor in held_by(fixed.get_submodule(name)).tensors()}
    kept = copy.deepcopy(fixed, {id(tensor): tensor for tensor in held_by(fixed).tensors() if id(tensor) not in new})
    with preserved(kept, values=True), _gauged(kept, names) as gauges:
        for training in (True, False):
            if any(gauge.mean is None for gauge in gauges.values()):
                with in_mode(kept, training):
                    run(kept, inputs, seed)
    for name, gauge in gauges.items():
        _set_identity(kept.get_submodule(name), gauge, name)
    return kept


def change_of_function(old: nn.Module, new: nn.Module, inputs: Inputs, seed: int) -> float:
    """The largest difference of the floating outputs of two models in evaluation mode, relative to the largest value of
    each output. Both are left as they were.

    Raises:
        GradtoolError: one of them does not run.
    """
    outputs = []
    for model in (old, new):
        with preserved(model, values=True), in_mode(model, False, whole=True):
            found = tensors_in(run(model, inputs, seed))
            outputs.append([tensor.detach().double().clone() for tensor in found if tensor.is_floating_point()])
    differences = [_difference(*pair) for pair in zip(*outputs, strict=True)]
    return max(differences, default=0.0)


def _difference(old: Tensor, new: Tensor) -> float:
    if not old.numel():
        return 0.0
    difference, largest = float((new - old).abs().max()), float(old.abs().max())
    return difference / largest if largest else difference


class _Gauge(nn.Module):
    """Stands in a norm's place, lets everything pass, and keeps the mean and the variance per channel of what came
    first."""

    mean: Tensor | None = None
    variance: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is None:
            values = x.detach().double().transpose(0, 1).flatten(1)
            self.mean = values.mean(1)
            self.variance = values.var(1, correction=min(1, values.shape[1] - 1))
        return x


@contextmanager
def _gauged(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, _Gauge]]:
    """Gauges in the places of the norms, which are put back."""
    norms = {name: model.get_submodule(name) for name in names}
    gauges = {name: _Gauge() for name in names}
    try:
        for name, gauge in gauges.items():
            model.set_submodule(name, gauge)
        yield gauges
    finally:
        for name, norm in norms.items():
            model.set_submodule(name, norm)


def _set_identity(norm: nn.Module, gauge: _Gauge, name: str) -> None:
    assert isinstance(norm, _BatchNorm)
    if gauge.mean is None or gauge.variance is None:
        raise GradtoolError(f"{name} is not called, so there are no statistics for it")
    if not (gauge.mean.isfinite().all() and gauge.variance.isfinite().all()):
        raise GradtoolError(
            f"{name} would see values that are not finite, of which there are no statistics",
            hint="give a batch of real data: --inputs-from FILE:FUNC",
        )
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.running_mean.copy_(gauge.mean)
        norm.running_var.copy_(gauge.variance)
        norm.num_batches_tracked.fill_(1)
        norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)
