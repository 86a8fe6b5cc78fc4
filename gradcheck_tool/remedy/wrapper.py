"""A fixed model as a file: a short module that builds the user's model and applies the plan to it.

The file that is written calls `build_fixed`, so that it builds wherever it and the user's file lie together.
"""

from __future__ import annotations

import json
import os
import re
import site
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gradcheck_tool._version import __version__
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.results import InputSpec, Insertion, Target

if TYPE_CHECKING:
    from gradcheck_tool.remedy.reinitialize import Reinitialization
    from gradcheck_tool.target import Subject

_TEMPLATE = '''\
"""{title}

Written by gradtool {version}. Use build_model() where the model was built until now, and make the optimizer
afterwards. Checkpoints of the old model load with load_state_dict(..., strict=False).
"""

from pathlib import Path

from gradcheck_tool.remedy.wrapper import build_fixed

TARGET = {target}

# layer, norm, channels, and of a GroupNorm the groups: such a norm goes behind each of these calls
PLAN = {plan}
{without_bias}{inputs}

def build_model():
    """The model with its norms, a torch.fx.GraphModule."""
    return build_fixed(TARGET, PLAN{arguments})
'''

_REDRAWN = '''\
"""{title}

Written by gradtool {version}. Use build_model() where the model was built until now.
"""

from pathlib import Path

from gradcheck_tool.remedy.wrapper import build_redrawn

TARGET = {target}

# layer, the gain of its orthogonal weights, and the mean of its inputs that its biases take away: 0 for zero biases
GAINS = {plan}
{inputs}

def build_model():
    """The model with new weights."""
    return build_redrawn(TARGET, GAINS{arguments})
'''

_INPUTS = """
# the inputs with which the graph is recorded; any batch size goes afterwards
INPUTS = {inputs}
"""

_WITHOUT_BIAS = """
# layers whose bias is taken away: the norm behind it makes it void
WITHOUT_BIAS = {layers}
"""

_FILE_SPEC = re.compile(r"(?P<file>.*?\.py)(?P<rest>:.*)?", re.DOTALL)


def source_of(
    target: Target,
    inputs: Sequence[InputSpec],
    plan: Sequence[Insertion],
    path: Path,
    without_bias: Sequence[str] = (),
) -> str:
    """The text of the file that builds the fixed model, to stand at `path`."""
    name = place_of(target)
    specs = _respelled(inputs)
    return _TEMPLATE.format(
        title=f"{target.object} of {name}, with {len(plan)} norm{'s' if len(plan) != 1 else ''} inserted.",
        version=__version__,
        plan=_table([_row(insertion) for insertion in plan]),
        inputs=_INPUTS.format(inputs=_table(specs)) if specs else "",
        without_bias=_WITHOUT_BIAS.format(layers=_table(without_bias)) if without_bias else "",
        target=_target_expression(target, path),
        arguments=(", INPUTS" if specs else "")
        + (", without_bias=WITHOUT_BIAS" if without_bias else "")
        + _folder_argument(target, path),
    )


def source_of_redrawn(
    target: Target, inputs: Sequence[InputSpec], steps: Sequence[Reinitialization], path: Path
) -> str:
    """The text of the file that builds the model with new weights, to stand at `path`."""
    specs = _respelled(inputs)
    layers = "1 layer" if len(steps) == 1 else f"{len(steps)} layers"
    return _REDRAWN.format(
        title=f"{target.object} of {place_of(target)}, with the weights of {layers} drawn anew.",
        version=__version__,
        plan=_table([(step.layer, round(step.gain, 4), round(step.centre, 4)) for step in steps]),
        inputs=_INPUTS.format(inputs=_table(specs)) if specs else "",
        target=_target_expression(target, path),
        arguments=(", INPUTS" if specs else "") + _folder_argument(target, path),
    )


def place_of(target: Target) -> str:
    """The file or the module in which the model is defined, as the TARGET names it."""
    if target.file is None or _FILE_SPEC.fullmatch(target.spec) is None:
        return target.spec.partition(":")[0]
    return target.file


def _row(insertion: Insertion) -> tuple[str | int, ...]:
    groups = () if insertion.groups is None else (insertion.groups,)
    return (insertion.after, insertion.norm, insertion.num_features, *groups)


def _insertion(after: str, norm: str, channels: int, groups: int | None = None) -> Insertion:
    return Insertion(after, norm, channels, None, groups)


def _respelled(inputs: Sequence[InputSpec]) -> list[str]:
    """The inputs as `--input` takes them; none where they are nested, which it cannot say."""
    if not all(spec.name.isidentifier() and spec.shape for spec in inputs):
        return []
    return [f"{spec.name}={'x'.join(map(str, spec.shape))}:{spec.dtype}" for spec in inputs]


def _table(rows: Sequence[Any]) -> str:
    return "[\n" + "".join(f"    {_quoted(row)},\n" for row in rows) + "]" if rows else "[]"


def _quoted(value: Any) -> str:
    """`value` as a formatter of Python would spell it: in double quotes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_quoted, value))})"
    return json.dumps(value, ensure_ascii=False)


def default_path(target: Target) -> Path:
    """Where the file would go if nobody says: `model_fixed.py` beside `model.py`."""
    if target.file is None:
        return Path("fixed_model.py")
    file = Path(target.file)
    return file.with_name(f"{file.stem}_fixed.py")


def _target_expression(target: Target, path: Path) -> str:
    """The TARGET, with the user's file found from the place of the new one, so that both can move together."""
    spec = _FILE_SPEC.fullmatch(target.spec)
    if spec is None:
        return _quoted(target.spec)
    return f"str({_from_here(Path(spec['file']), path)}) + {_quoted(spec['rest'] or f':{target.object}')}"


def _from_here(place: Path, path: Path) -> str:
    """The expression, in a file at `path`, for a place that may move together with it."""
    relative = Path(os.path.relpath(place.absolute(), path.absolute().parent)).as_posix()
    return f"Path(__file__).parent / {_quoted(relative)}" if relative != "." else "Path(__file__).parent"


def _folder_argument(target: Target, path: Path) -> str:
    """For a TARGET that names a module: the folder from which the module is imported, unless it is installed."""
    if target.file is None or _FILE_SPEC.fullmatch(target.spec) is not None:
        return ""
    file = Path(target.file).absolute()
    names = target.spec.partition(":")[0].split(".")
    folder = (file.parent if file.name == "__init__.py" else file).parents[len(names) - 1]
    installed = any(
        Path(place).absolute() == folder for place in (*site.getsitepackages(), sysconfig.get_path("stdlib"))
    )
    return "" if installed else f", folder={_from_here(folder, path)}"


def build_fixed(
    spec: str,
    plan: Sequence[tuple[str, str, int] | tuple[str, str, int, int]],
    inputs: Sequence[str] = (),
    folder: Path | None = None,
    without_bias: Sequence[str] = (),
) -> nn.Module:
    """Builds the model that `spec` names and inserts the norms of `plan`: what the written file calls.

    The weights are drawn anew, by torch's global random state, as the model's own constructor would draw them.

    Args:
        spec: a TARGET, as on the command line.
        plan: (call, class of torch.nn, channels) for each norm, and the groups of a GroupNorm.
        inputs: as `--input` takes them; what the model or its file says of them where empty.
        folder: from which the module that `spec` names is imported; it stays at the end of the import path.
        without_bias: layers whose bias is taken away.

    Raises:
        GradtoolError: the model cannot be built, or has no such layers any more.
    """
    from gradcheck_tool.capturing import capture
    from gradcheck_tool.remedy.bias import drop_biases
    from gradcheck_tool.remedy.rewrite import insert

    subject, _ = _loaded(spec, inputs, folder)
    captured, _ = capture(subject.model, subject.inputs)
    try:
        fixed = insert(captured, [_insertion(*row) for row in plan])
        return drop_biases(fixed, without_bias)
    except KeyError as error:
        raise _changed(spec, error) from error


def build_redrawn(
    spec: str, gains: Sequence[tuple[str, float, float]], inputs: Sequence[str] = (), folder: Path | None = None
) -> nn.Module:
    """Builds the model that `spec` names and draws the weights of `gains`: what the written file calls.

    All weights are drawn by torch's global random state, those that stay as the model's own constructor draws them.

    Args:
        spec: a TARGET, as on the command line.
        gains: (layer, σ_w, the mean of its inputs that its biases take away) for each layer.
        inputs: as `--input` takes them; what the model or its file says of them where empty.
        folder: from which the module that `spec` names is imported; it stays at the end of the import path.

    Raises:
        GradtoolError: the model cannot be built, or has no such layers any more.
    """
    from gradcheck_tool import auditing
    from gradcheck_tool.remedy.base import Case
    from gradcheck_tool.remedy.layers import call_named
    from gradcheck_tool.remedy.reinitialize import Planner, redraw

    subject, seed = _loaded(spec, inputs, folder)
    structure = auditing.read(subject.model, subject.inputs).structure
    biases = Planner(Case(subject.model, subject.inputs, structure), "orthogonal").biases
    calls = [{call.name: call for call in structure.calls}]
    try:
        for layer, gain, centre in gains:
            call = call_named(layer, calls)[0]
            redraw(subject.model, call, call.parameter, biases[call], gain, "orthogonal", centre, seed)
    except KeyError as error:
        raise _changed(spec, error) from error
    return subject.model


def _loaded(spec: str, inputs: Sequence[str], folder: Path | None) -> tuple[Subject, int]:
    """The model and its inputs, and the seed that it was built with."""
    from gradcheck_tool.target import load_subject

    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    seed = int(torch.randint(2**31, ()).item())
    return load_subject(spec, input_specs=tuple(inputs), seed=seed), seed


def _changed(spec: str, error: KeyError) -> GradtoolError:
    reason = f"{spec} has changed since the plan was made: {error.args[0]}"
    return GradtoolError(reason, hint="run gradtool fix again")
