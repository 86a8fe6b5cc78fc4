"""The text of the file: the plan as tables that a person can read, and a `build_model()`."""

from __future__ import annotations

import json
import os
import re
import site
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck_tool._version import __version__
from gradcheck_tool.results import InputSpec, Insertion, Target

if TYPE_CHECKING:
    from gradcheck_tool.remedy.reinitialize import Reinitialization
    from gradcheck_tool.remedy.shortcuts import Shortcut

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

_REMEDIED = '''\
"""{title}

Written by gradtool {version}. Use build_model() where the model was built until now{warning}.
"""

from pathlib import Path

from gradcheck_tool.remedy.wrapper import build_remedied

TARGET = {target}
{tables}{inputs}

def build_model():
    """The model with {what}."""
    return build_remedied(TARGET{arguments})
'''

_GAINS = """
# layer, the gain of its orthogonal weights, and the mean of its inputs that its biases take away: 0 for zero biases
GAINS = {rows}
"""

_SHORTCUTS = """
# a shortcut leads around the block that begins with each of these layers, and starts at zero
SHORTCUTS = {rows}
"""

_NEW_KEYS = """, and make the optimizer
afterwards. Checkpoints of the old model load with load_state_dict(..., strict=False)"""

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


def source_of_remedied(
    target: Target,
    inputs: Sequence[InputSpec],
    drawn: Sequence[Reinitialization],
    shortcuts: Sequence[Shortcut],
    path: Path,
) -> str:
    """The text of the file that builds the model with new weights, or with shortcuts, or with both, to stand at
    `path`."""
    specs = _respelled(inputs)
    tables, what, arguments = "", [], ""
    if drawn:
        rows = [(step.layer, round(step.gain, 4), round(step.centre, 4)) for step in drawn]
        tables += _GAINS.format(rows=_table(rows))
        what.append("new weights")
        arguments += ", gains=GAINS"
    if shortcuts:
        tables += _SHORTCUTS.format(rows=_table([step.layer for step in shortcuts]))
        what.append("shortcuts around its blocks")
        arguments += ", shortcuts=SHORTCUTS"
    return _REMEDIED.format(
        title=f"{target.object} of {place_of(target)}, with {' and '.join(what)}.",
        version=__version__,
        warning=_NEW_KEYS if shortcuts else "",
        tables=tables,
        inputs=_INPUTS.format(inputs=_table(specs)) if specs else "",
        target=_target_expression(target, path),
        what=" and ".join(what),
        arguments=arguments + (", inputs=INPUTS" if specs else "") + _folder_argument(target, path),
    )


def place_of(target: Target) -> str:
    """The file or the module in which the model is defined, as the TARGET names it."""
    if target.file is None or _FILE_SPEC.fullmatch(target.spec) is None:
        return target.spec.partition(":")[0]
    return target.file


def _row(insertion: Insertion) -> tuple[str | int, ...]:
    groups = () if insertion.groups is None else (insertion.groups,)
    return (insertion.after, insertion.norm, insertion.num_features, *groups)


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
