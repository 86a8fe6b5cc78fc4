"""The options that audit, probe and fix share, and one run of such a command: its subject, its progress, its result."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gradcheck_tool.cli.streams import ResultChannel, claim_stdout
from gradcheck_tool.files import require_writable, write_whole
from gradcheck_tool.report import NORMAL, QUIET, VERBOSE, formats, render
from gradcheck_tool.results import SEVERITIES

if TYPE_CHECKING:
    from gradcheck_tool.report import Result
    from gradcheck_tool.target import Subject
    from gradcheck_tool.target.request import LoadRequest

LOAD_TIMEOUT = 60.0
MIN_DEPTH = 4
LARGEST_SEED = 2**32 - 1
"""numpy takes no larger one."""


@dataclass(frozen=True)
class SharedOptions:
    """What stands on the command line, by the names of the options."""

    target: str
    input: tuple[str, ...]
    inputs_from: str | None
    weights: str | None
    device: str | None
    seed: int
    timeout: float
    min_depth: int
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    format: str
    output_file: Path | None
    fail_on: str
    quiet: bool
    verbose: bool

    @property
    def verbosity(self) -> int:
        return NORMAL if self.quiet == self.verbose else QUIET if self.quiet else VERBOSE


@dataclass(frozen=True)
class Run:
    """One run of a command: the parsed options and the channel that its result goes to."""

    options: SharedOptions
    channel: ResultChannel

    @property
    def request(self) -> LoadRequest:
        """How the options say that the user's model and its inputs are to be loaded."""
        from gradcheck_tool.target.request import LoadRequest

        asked = self.options
        return LoadRequest(
            spec=asked.target,
            input_specs=asked.input,
            inputs_from=asked.inputs_from,
            weights=asked.weights,
            device=asked.device,
            seed=asked.seed,
            timeout=asked.timeout,
        )

    def load(self, batches: int = 1) -> Subject:
        """The user's model and its inputs, of which `batches` are wanted."""
        return replace(self.request, batches=batches).load()

    def rule_codes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """`--select` and `--ignore`, checked: an unknown code is an error before any work is done."""
        from gradcheck_tool.rules import parse_codes

        return parse_codes(self.options.select), parse_codes(self.options.ignore)

    def publish(self, result: Result) -> None:
        """Render `result` and write it to `--output-file`, or to standard output."""
        asked = self.options
        color = self.color and asked.output_file is None
        self.write(render(result, asked.format, color=color, verbosity=asked.verbosity))

    def write(self, text: str) -> None:
        """Write the finished document."""
        if self.options.output_file is None:
            self.channel.write(text)
        else:
            write_whole(self.options.output_file, text)

    @property
    def color(self) -> bool:
        """Colour is for terminals, and not where https://no-color.org is observed."""
        return self.channel.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _standard_output_is_none(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    # The device file would lead to descriptor 1, which is stderr's while the user's code runs.
    return None if value in (Path("-"), Path("/dev/stdout")) else value


_F = TypeVar("_F", bound=Callable[..., Any])

_SHARED: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
    click.argument("target"),
    click.option(
        "--input",
        multiple=True,
        metavar="SPEC",
        help="Input as [NAME=]DIMxDIM...[:DTYPE], e.g. 32x784 or ids=8x128:int64. Repeat for several.",
    ),
    click.option("--inputs-from", metavar="FILE:FUNC", help="Take the inputs from this function or value."),
    click.option("--weights", metavar="FILE", help="Load these weights (.pt, .safetensors), as data only."),
    click.option("--device", metavar="DEVICE", help="Where the model is run, e.g. cpu or cuda."),
    click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True, help="Random seed."),
    click.option(
        "--timeout",
        type=click.FloatRange(0),
        default=LOAD_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Longest time that loading TARGET may take; 0 for no limit.",
    ),
    click.option(
        "--min-depth",
        type=click.IntRange(1),
        default=MIN_DEPTH,
        show_default=True,
        metavar="N",
        help="audit, fix: blocks in a row without normalization that count.",
    ),
    click.option("--select", multiple=True, metavar="CODES", help="audit: only these rules, e.g. GT001,GT002."),
    click.option("--ignore", multiple=True, metavar="CODES", help="audit: all rules but these."),
    click.option(
        "--format", type=click.Choice(formats()), default="text", show_default=True, help="How the report is written."
    ),
    click.option(
        "--output-file",
        type=click.Path(path_type=Path),
        callback=_standard_output_is_none,
        metavar="FILE",
        help="Write the report here instead of to standard output.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice((*SEVERITIES, "never")),
        default="warning",
        show_default=True,
        help="Lowest severity that exits with 1; never: always 0, if it could run.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Findings and verdicts only."),
    click.option("-v", "--verbose", is_flag=True, help="Everything: all layers, all chains, tracebacks."),
)


def _number_of(name: str, text: str) -> Callable[[_F], _F]:
    return click.option(name, type=click.IntRange(1), default=1, show_default=True, metavar="N", help=text)


BATCHES = _number_of("--batches", "Batches to measure on; the figures are the means.")
SEEDS = _number_of("--seeds", "How often to measure on each batch, from --seed on. The weights stay.")


def shared_options(exit_code_of: Callable[[Callable[[], int], bool], int]) -> Callable[..., Callable[..., None]]:
    """A decorator that turns `command(run, **own_options) -> exit code` into a Click callback with the shared options.

    Args:
        exit_code_of: runs the work, with `verbose` as its second argument, and turns what goes wrong into an exit code.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., None]:
        @functools.wraps(command)
        def callback(**values: Any) -> None:
            shared = SharedOptions(**{entry.name: values.pop(entry.name) for entry in fields(SharedOptions)})

            def work() -> int:
                with claim_stdout() as channel:
                    if shared.output_file is not None:
                        require_writable(shared.output_file)
                    return command(Run(shared, channel), **values)

            click.get_current_context().exit(exit_code_of(work, shared.verbose))

        decorated: Callable[..., None] = callback
        for option in reversed(_SHARED):
            decorated = option(decorated)
        return decorated

    return decorate
