"""The verbs: audit, probe, fix, check and capture, each a few lines over the rooms below.

The public functions take a model; the `*_subject` functions take what target.py loaded, and are what the command line
calls. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import fx, nn

from gradcheck_tool import auditing
from gradcheck_tool.capturing import capture as capture_graph
from gradcheck_tool.errors import GradientHealthError
from gradcheck_tool.inputs import Inputs, describe, for_model
from gradcheck_tool.lazy import copied, is_unfinished
from gradcheck_tool.measuring import measurable, measure
from gradcheck_tool.remedy.insert_norm import InsertNorm, NormKind, Placement
from gradcheck_tool.results import AuditReport, FixResult, GradientProfile, ProbeReport, Target
from gradcheck_tool.rules import parse_codes
from gradcheck_tool.target import Subject, materialize, unwrapped
from gradcheck_tool.target.request import LoadRequest
from gradcheck_tool.verdict import STEPS

Progress = Callable[[str, int, int], None]
"""Is told (what is done now, steps done, steps in all)."""


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

    Raises:
        GradtoolError: the model does not run on these inputs, or a code is unknown.
    """
    subject = _subject(model, example_inputs, input_size, loss_fn, targets, seed)
    return audit_subject(subject, min_depth=min_depth, select=select, ignore=ignore, probe=probe, seed=seed)


def probe(
    model: nn.Module,
    example_inputs: Any = None,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
    *,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    steps: int = STEPS,
) -> GradientProfile:
    """Runs `model` forward and backward in training mode and reports the gradient norm of every weight layer, with a
    verdict, for which it looks once more after a few optimizer `steps`. The model is left as it was.

    Without `loss_fn(output, targets)` the loss is a random projection of every floating output.

    Raises:
        GradtoolError: the model does not run on these inputs, or gives nothing that a gradient can be taken of.
    """
    subject = _subject(model, example_inputs, input_size, loss_fn, targets, seed)
    return probe_subject(subject, seed=seed, steps=steps).probe


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
        ValueError: `norm` or `placement` is not known.
    """
    remedy = InsertNorm(norm, placement)
    subject = _subject(model, example_inputs, input_size, loss_fn, targets, seed)
    return fix_subject(
        subject,
        norm=remedy.kind,
        auto=auto,
        placement=placement,
        min_depth=min_depth,
        seed=seed,
        drop_bias=drop_bias,
        keep_function=keep_function,
    )


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
    subject = _subject(model, example_inputs, input_size, None, None, seed)
    return capture_graph(subject.model, subject.inputs)[0]


def audit_subject(
    subject: Subject,
    *,
    min_depth: int = 4,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    probe: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> AuditReport:
    """`audit` of a loaded target."""
    tell = progress or _silent
    steps = 2 + probe
    selected, ignored = parse_codes(select), parse_codes(ignore)
    tell("recording the model", 0, steps)
    if probe:
        subject = measurable(subject, seed)
    reading = auditing.read(subject.model, subject.inputs)
    profile = None
    if probe:
        tell("probing", 1, steps)
        profile = measure(subject, seed, reading)
    tell("predicting", steps - 1, steps)
    report = auditing.audit(subject, reading, min_depth=min_depth, select=selected, ignore=ignored, profile=profile)
    tell("done", steps, steps)
    return report


def probe_subject(
    subject: Subject, *, seed: int = 0, steps: int = STEPS, progress: Progress | None = None
) -> ProbeReport:
    """`probe` of a loaded target."""
    tell = progress or _silent
    tell("probing", 0, 1)
    subject = measurable(subject, seed)
    profile = measure(subject, seed, steps=steps)
    tell("done", 1, 1)
    return ProbeReport(subject.target, describe(subject.model, subject.inputs), profile)


def fix_subject(
    subject: Subject,
    *,
    norm: NormKind = "batch",
    auto: bool = False,
    placement: Placement = "all",
    min_depth: int = 4,
    seed: int = 0,
    drop_bias: bool = False,
    keep_function: bool = False,
    output: Path | None = None,
    in_place: bool = False,
    save_weights: Path | None = None,
    request: LoadRequest | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """`fix` of a loaded target; writes the change to the file or folder `output`, or over the user's own files, and the
    fixed model's weights to the file `save_weights`.

    Args:
        norm: which norm goes in.
        placement: behind which blocks.
        auto: measures the remedies instead, and takes the smallest one that heals; in chains of any depth.
        request: how the target was loaded; what its spec alone says by default.
    """
    from gradcheck_tool import fixing  # which imports LibCST

    if request is None and (subject.target.file is not None or ":" in subject.target.spec):
        request = LoadRequest(subject.target.spec)
    tell = progress or _silent

    def insert(remedy: InsertNorm, depth: int) -> FixResult:
        return fixing.fix(
            subject,
            request,
            remedy=remedy,
            min_depth=depth,
            seed=seed,
            drop_bias=drop_bias,
            keep_function=keep_function,
            output=output,
            in_place=in_place,
            save_weights=save_weights,
            tell=tell,
            alternatives=not auto,
        )

    if not auto:
        return insert(InsertNorm(norm, placement), min_depth)
    from gradcheck_tool.fixing.auto import auto_fix

    trained = request is not None and request.weights is not None
    return auto_fix(subject, seed=seed, trained=trained or keep_function, insert=insert, tell=tell)


def _subject(
    model: nn.Module,
    example_inputs: Any,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None,
    loss_fn: Callable[[Any, Any], Any] | None,
    targets: Any,
    seed: int,
) -> Subject:
    """A model that was handed over in Python, with its inputs."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(f"model is the class {model.__name__} itself: pass an instance, as {model.__name__}()")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    model = unwrapped(model, type(model).__name__)
    inputs = for_model(model, example_inputs, input_size, seed)
    model = _materialized(model, inputs)
    name = type(model).__name__
    return Subject(model, inputs, Target(name, None, name), loss_fn, targets)


def _materialized(model: nn.Module, inputs: Inputs) -> nn.Module:
    """`model`, or where it has lazy layers a copy in which they have their size: the model itself is left as it was."""
    if not is_unfinished(model):
        return model
    twin = copied(model)
    materialize(twin, inputs)
    return twin


def _silent(label: str, done: int, total: int) -> None:
    """Nobody wants to know."""
