"""The command line: reads options, calls the tasks, picks a renderer, sets the exit code.

No analysis is done here, and torch is imported by the commands that need it alone.
Exit codes: 0 nothing at or above `--fail-on`, 1 findings, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gradcheck_tool._version import __version__
from gradcheck_tool.cli.options import BATCHES, SEEDS, Run, shared_options
from gradcheck_tool.cli.progress import Progress
from gradcheck_tool.cli.streams import claim_stdout
from gradcheck_tool.cli.topics import explanation, list_of_topics
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.files import require_writable
from gradcheck_tool.report import QUIET, render
from gradcheck_tool.thresholds import STEPS

if TYPE_CHECKING:
    from gradcheck_tool.remedy.insert_norm import NormKind

OK, FINDINGS, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130


def main() -> None:
    """The entry point of `gradtool` and of `python -m gradcheck_tool`."""
    gradtool(prog_name="gradtool")


def _exit_code_of(work: Callable[[], int], verbose: bool) -> int:
    """Run a command's work; what goes wrong becomes one line on stderr and an exit code."""
    try:
        return work()
    except GradtoolError as error:
        trace = error.user_traceback or "".join(traceback.format_exception(error.__cause__) if error.__cause__ else ())
        if verbose and trace:
            click.echo(trace.rstrip(), err=True)
        _complain(error.one_line())
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as leaving:  # only the user's code raises it; passed on, `sys.exit(0)` would read as success
        _complain(f"the model's own code called sys.exit({leaving.code!r}); put that under the __main__ guard")
    except Exception as bug:  # noqa: BLE001  # the border: whatever is left is our own mistake
        if verbose:
            click.echo(traceback.format_exc().rstrip(), err=True)
        what = " ".join(f"{type(bug).__name__}: {bug}".split())
        _complain(f"internal error: {what}; please report it, with the traceback that -v shows")
    return COULD_NOT_RUN


def _complain(line: str) -> None:
    click.echo(f"gradtool: error: {line}", err=True)


_verb = shared_options(_exit_code_of)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  gradtool audit model.py                   read the model, run nothing
  gradtool probe model.py:Net --input 32x784
  gradtool fix --insert-bn model.py         show what batch norm would change
  gradtool explain GT001

TARGET is a file or a module, with the model's name after a colon where it is not clear: model.py, model.py:Net,
"model.py:build(depth=50)", package.module:Net. Loading TARGET executes it.""",
)
@click.version_option(__version__, prog_name="gradtool", message="%(prog)s %(version)s")
def gradtool() -> None:
    """Check the gradients of a PyTorch model before you train it."""


@gradtool.command(
    epilog="""\b
Examples:
  gradtool audit model.py
  gradtool audit --probe --input 32x3x224x224 model.py:Net
  gradtool audit --format json --fail-on error model.py > report.json"""
)
@_verb
@click.option("--probe", is_flag=True, help="Also run the model and measure.")
@BATCHES
@SEEDS
def audit(run: Run, probe: bool, batches: int, seeds: int) -> int:
    """Find deep chains without normalization.

    Reads the graph and the weights of TARGET, in training mode. No data runs through it, unless it reads values to
    decide its way: then one batch does, and the report says so.
    """
    select, ignore = run.rule_codes()
    asked = run.options
    if not probe and (batches, seeds) != (1, 1):
        raise GradtoolError("--batches and --seeds are the probe's", hint="add --probe")
    subject = run.load(batches)
    from gradcheck_tool import tasks

    with Progress(not asked.quiet) as progress:
        report = tasks.audit_subject(
            subject,
            min_depth=asked.min_depth,
            select=select,
            ignore=ignore,
            probe=probe,
            seed=asked.seed,
            batches=batches,
            seeds=seeds,
            progress=progress,
        )
    run.publish(report)
    return FINDINGS if report.fails(asked.fail_on) else OK


@gradtool.command(
    epilog="""\b
Examples:
  gradtool probe model.py
  gradtool probe --input ids=8x128:int64 "model.py:build(depth=50)"
  gradtool probe --batches 4 --seeds 4 model.py
  gradtool probe --weights checkpoint.pt --format json model.py:Net"""
)
@click.option(
    "--steps",
    type=click.IntRange(0),
    default=None,
    help=f"Optimizer steps after which the verdict looks once more; they are undone.  [default: {STEPS}, none where the"
    " model learns at once]",
)
@BATCHES
@SEEDS
@_verb
def probe(run: Run, steps: int | None, batches: int, seeds: int) -> int:
    """Measure the gradient norm of every weight layer.

    Runs TARGET forward and backward, takes a few optimizer steps and looks again, leaves it as it was, and gives a
    verdict. Exits with 1 unless healthy.
    """
    run.rule_codes()  # without effect here, but a misspelt one is never passed over
    subject = run.load(batches)
    from gradcheck_tool import tasks

    with Progress(not run.options.quiet) as progress:
        report = tasks.probe_subject(
            subject, seed=run.options.seed, steps=steps, batches=batches, seeds=seeds, progress=progress
        )
    run.publish(report)
    return OK if report.ok or run.options.fail_on == "never" else FINDINGS


@gradtool.command(
    epilog="""\b
Examples:
  gradtool fix --insert-bn model.py                 show the effect and the diff, write nothing
  gradtool fix --auto model.py                      the smallest remedy that heals
  gradtool fix --norm auto model.py                 the norm that fits each layer
  gradtool fix --insert-bn --diff model.py          the diff alone
  gradtool fix --insert-bn -i model.py              change model.py itself
  gradtool fix --insert-bn -o fixed.py model.py"""
)
@_verb
@click.option(
    "--norm",
    type=click.Choice(("auto", "batch", "layer", "group", "instance", "rms")),
    help="Insert this norm between each layer of a chain and its activation; auto: the one that fits the layer.",
)
@click.option("--insert-bn", is_flag=True, help="The same as --norm batch.")
@click.option(
    "--placement",
    type=click.Choice(("all", "fewest")),
    help="Norms behind all blocks, or the fewest that the gradient is predicted to need.",
)
@click.option("--auto", is_flag=True, help="Measure the remedies and take the smallest one that heals.")
@click.option("--diff", "diff_only", is_flag=True, help="Show the diff alone; exits with 1 while it is not written.")
@click.option("--drop-bias", is_flag=True, help="Also take away the biases that the new norms make void.")
@click.option("--keep-function", is_flag=True, help="For trained weights: the norms start as the identity.")
@click.option("-i", "--in-place", is_flag=True, help="Change your own files.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write the changed file here; if several change, this is their folder.",
)
@click.option(
    "--save-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the weights for the changed file here (.pt, .safetensors).",
)
def fix(
    run: Run,
    norm: NormKind | None,
    insert_bn: bool,
    placement: Literal["all", "fewest"] | None,
    auto: bool,
    diff_only: bool,
    drop_bias: bool,
    keep_function: bool,
    in_place: bool,
    output: Path | None,
    save_weights: Path | None,
) -> int:
    """Insert normalization into your own source, or find what heals, and measure the effect.

    Probes TARGET before and after. Writes nothing without --in-place or --output. Exits with 1 if the fix does not
    improve.
    """
    asked = run.options
    if norm is None and not insert_bn and not auto:
        raise GradtoolError(
            "fix needs to know the remedy", hint="add --auto, --norm auto, or --insert-bn for batch norm"
        )
    if auto and placement is not None:
        raise GradtoolError("--auto chooses the remedy, and a placement is asked for too", hint="give one of the two")
    if auto and (insert_bn or norm is not None):
        raise GradtoolError("--auto chooses the remedy, and a norm is asked for too", hint="give one of the two")
    if insert_bn and norm not in (None, "batch"):
        raise GradtoolError(f"--insert-bn is --norm batch, and --norm {norm} is given too", hint="give one of the two")
    if diff_only and asked.format != "text":
        raise GradtoolError(f"--diff is text, it cannot be combined with --format {asked.format}", hint="drop one")
    if in_place and output is not None:
        raise GradtoolError("both --in-place and --output are given", hint="give one of the two")
    if output is not None:
        require_writable(output / "any name" if output.is_dir() else output)
    if save_weights is not None:
        require_writable(save_weights)
    run.rule_codes()  # without effect here, but a misspelt one is never passed over
    from gradcheck_tool.remedy.patch import processes

    with processes.prepared():
        subject = run.load()
        from gradcheck_tool import tasks

        with Progress(not asked.quiet) as progress:
            result = tasks.fix_subject(
                subject,
                norm=norm or "batch",
                auto=auto,
                placement=placement or "all",
                min_depth=asked.min_depth,
                seed=asked.seed,
                drop_bias=drop_bias,
                keep_function=keep_function,
                output=output,
                in_place=in_place,
                save_weights=save_weights,
                request=run.request,
                progress=progress,
            )
    if diff_only:
        from gradcheck_tool.report.text.diff import diff_text

        run.write(diff_text(result.diff, run.color and asked.output_file is None))
        if not asked.quiet:  # what the diff does not say: whether it helps, or why there is none
            click.echo(render(result, "text", verbosity=QUIET), err=True, nl=False)
    else:
        run.publish(result)
    if asked.fail_on == "never":
        return OK
    asked_to_write = in_place or output is not None
    unwritten = result.written is None and (
        (bool(result.diff) and (diff_only or in_place)) or (bool(result.steps) and (diff_only or asked_to_write))
    )
    return FINDINGS if unwritten or result.improved is False else OK


@gradtool.command(
    epilog="""\b
Examples:
  gradtool explain
  gradtool explain GT001
  gradtool explain unnormalized-chain
  gradtool explain verdicts"""
)
@click.argument("topic", metavar="[RULE|verdicts]", required=False)
def explain(topic: str | None) -> None:
    """Explain one RULE or the verdicts of the probe, or list what there is to explain."""

    def work() -> int:
        with claim_stdout() as channel:
            channel.write(list_of_topics() if topic is None else explanation(topic))
        return OK

    click.get_current_context().exit(_exit_code_of(work, verbose=False))
