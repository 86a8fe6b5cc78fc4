"""The verbs: audit, probe, fix, check and capture, each a few lines over the rooms below.

They take a model; tasks.py does the same with what target/ loaded. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from gradcheck_tool.batches import require_positive
from gradcheck_tool.capturing import capture as capture_graph
from gradcheck_tool.errors import GradientHealthError
from gradcheck_tool.handed import handed
from gradcheck_tool.remedy.insert_norm import InsertNorm, NormKind, Placement
from gradcheck_tool.results import AuditReport, FixResult, GradientProfile
from gradcheck_tool.tasks import audit_subject, fix_subject, probe_subject


def audit(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    min_depth: int = 4,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    probe: bool = False,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
    seed: int = 0,
    batches: int = 1,
    seeds: int = 1,
) -> AuditReport:
    """Reads the graph and the weights of `model` and reports what the rules find. The model is left as it was.

    Args:
        model: read as it will be trained, in training mode.
        example_inputs: a tensor is the one argument, a tuple the arguments, a dict the keyword arguments. Without it
            and `input_size`: what the model carries, else what its first layers tell.
        input_size: instead, the size of a random tensor, batch included, as `(32, 784)`; or a list of sizes.
        min_depth: the number of blocks from which a chain is a finding.
        select: codes of the rules to apply (`GT001`; a prefix stands for all that begin so); all where empty.
        ignore: codes of rules to leave out.
        probe: whether to measure too, with `loss_fn(output, targets)` if given.
        seed: of the probe, and of random inputs.
        batches, seeds: on how many batches and from how many seeds it is measured, as in `probe`.

    Raises:
        GradtoolError: the model does not run on these inputs, or a code is unknown.
    """
    require_positive(batches=batches, seeds=seeds)
    subject = handed(model, example_inputs, input_size, seed, loss_fn, targets, batches)
    return audit_subject(
        subject,
        min_depth=min_depth,
        select=select,
        ignore=ignore,
        probe=probe,
        seed=seed,
        batches=batches,
        seeds=seeds,
    )


def probe(
    model: nn.Module,
    example_inputs: Any = None,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
    *,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    steps: int | None = None,
    batches: int = 1,
    seeds: int = 1,
) -> GradientProfile:
    """Runs `model` forward and backward in training mode and reports the gradient norm of every weight layer, with a
    verdict, for which it looks once more after a few optimizer `steps`: those that are asked for; else two, or none
    where the model shows with `loss_fn` and `targets` that it learns at once. The model is left as it was.

    Without `loss_fn(output, targets)` the loss is a random projection of every floating output.

    Args:
        example_inputs: as for `audit`; or a DataLoader, an iterator, or with `batches` above 1 a list of such. With
            `loss_fn` each of these is then a pair, (inputs, targets).
        batches: how many of them to measure on; where the inputs are random, so many are drawn. The figures are the
            means, of norms the geometric ones, and the verdict is the one that most of the runs give.
        seeds: how often to measure on each, with another projection and other draws of the model's own, from `seed` on.
            The weights stay as they are.

    Raises:
        GradtoolError: the model does not run on these inputs, or gives nothing that a gradient can be taken of.
    """
    require_positive(batches=batches, seeds=seeds)
    subject = handed(model, example_inputs, input_size, seed, loss_fn, targets, batches)
    return probe_subject(subject, seed=seed, steps=steps, batches=batches, seeds=seeds).probe


def fix(
    model: nn.Module,
    example_inputs: Any = None,
    norm: NormKind = "batch",
    *,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    min_depth: int = 4,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
    seed: int = 0,
    auto: bool = False,
    placement: Placement = "all",
    drop_bias: bool = False,
    keep_function: bool = False,
) -> FixResult:
    """Inserts a norm behind every block of every chain that `audit` would find, and probes before and after; or with
    `auto` tries what might heal the model, and takes the smallest change that does.

    The fixed model is a `torch.fx.GraphModule` with a copy of the weights; `model` is left as it was. Build the
    optimizer from the fixed model's parameters.

    Args:
        norm: "batch", "layer", "group", "instance" or "rms"; or "auto", for each layer the one of batch, layer and
            group norm that fits it. Layers that the norm does not fit are under `skipped`, with the reason.
        auto: measure the remedies instead (new weights, norms, other activations, …); a healthy model is left alone.
            With `keep_function`, none that throws weights away.
        placement: "all", or "fewest": behind as few blocks as the gradient is predicted to need to stay within a
            decade.
        drop_bias: also take the biases away that the norms behind them make void. Old checkpoints have them still.
        keep_function: let the norms start as the identity in evaluation mode, with the statistics of the inputs, for
            weights that are trained already. Only batch norm can.

    Raises:
        GradtoolError: the model does not run on these inputs, or the norm cannot keep the function.
        ValueError: `norm` or `placement` is not known, or chosen beside `auto`, which chooses the remedy.
    """
    remedy = InsertNorm(norm, placement)
    if auto and (norm, placement) != ("batch", "all"):
        raise ValueError("auto chooses the remedy: give neither a norm nor a placement beside it")
    subject = handed(model, example_inputs, input_size, seed, loss_fn, targets)
    result = fix_subject(
        subject,
        norm=remedy.kind,
        auto=auto,
        placement=placement,
        min_depth=min_depth,
        seed=seed,
        drop_bias=drop_bias,
        keep_function=keep_function,
    )
    from gradcheck_tool.fixing.weights import with_own_weights  # which imports LibCST

    return with_own_weights(subject, result)


def check(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    fail_on: str = "warning",
    **options: Any,
) -> AuditReport:
    """Audits `model` and raises if anything at or above `fail_on` is found: for the lines before training starts.

    Takes the options of `audit`. Returns the report where all is well.

    Raises:
        GradientHealthError: with the report.
        GradtoolError: the model does not run on these inputs.
    """
    report = audit(model, example_inputs, **options)
    if report.fails(fail_on):
        raise GradientHealthError(report)
    return report


def capture(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> fx.GraphModule:
    """The torch.fx graph of `model`, as a module that shares its parameters and computes what it computes, at any batch
    size, in training and in evaluation mode.

    Raises:
        GradtoolError: the model does not run on these inputs.
    """
    subject = handed(model, example_inputs, input_size, seed)
    return capture_graph(subject.model, subject.inputs)[0]
