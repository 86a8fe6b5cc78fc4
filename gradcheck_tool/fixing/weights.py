"""The weights of a fixed model: copied, or a file of them under the keys of the changed source, that this can load."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.border.memory import is_lack_of_memory, tells_of_memory
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.files import write_whole
from gradcheck_tool.fixing.change import Change
from gradcheck_tool.results import FixResult
from gradcheck_tool.target import Subject

_SHARED = "there was not enough memory to copy the weights: .model shares them with the model that was given"


@tells_of_memory
def with_own_weights(subject: Subject, result: FixResult) -> FixResult:
    """`result` of a fix of `subject`, with a copy of its weights: what is trained is one model or the other.

    Where nothing was changed and memory does not do for a copy, they are shared, and the advice says so.

    Raises:
        GradtoolError: memory does not do for a copy, and something was changed.
    """
    try:
        return replace(result, model=copy.deepcopy(result.model))
    except Exception as error:  # of the user's own `__deepcopy__` too
        if result.plan or result.steps or not is_lack_of_memory(error):
            raise
        return replace(result, advice=(*result.advice, _SHARED))


def save_weights(path: Path, model: nn.Module, fixed: nn.Module, change: Change) -> None:
    """Writes the state dict of `fixed` to `path`, whole or not at all: as safetensors where it is called so, else as
    `torch.save` does.

    Args:
        path: the file.
        model: as it was.
        fixed: the graph with the norms.
        change: of the source of `model`. Where that is not changed, the keys are those of `fixed`, which the new module
            builds.

    Raises:
        GradtoolError: it cannot be written.
    """
    state = state_of(model, fixed, change)
    write_whole(path, _safetensors(state) if path.suffix == ".safetensors" else _pickled(state))


def require_format(path: Path) -> None:
    """That a file of this name can be made, before the work starts.

    Raises:
        GradtoolError: it needs a package that is not installed.
    """
    if path.suffix == ".safetensors":
        _serializer()


def state_of(model: nn.Module, fixed: nn.Module, change: Change) -> dict[str, Any]:
    """The state dict of `fixed`, under the keys that the changed source has."""
    now = fixed.state_dict()
    if change.refused is not None or not change.proposal.after:
        return dict(now)
    state = {change.renamed.get(key, key): now[key] for key in model.state_dict() if key in now}
    for name, places in change.norms.items():
        for leaf in fixed.get_submodule(name).state_dict():
            state |= {f"{place}.{leaf}": now[f"{name}.{leaf}"] for place in places}
    return state | {key: torch.zeros(()) for key in change.factors}


def _pickled(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _safetensors(state: dict[str, Any]) -> bytes:
    save = _serializer()
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    # the format knows no tied tensors
    content: bytes = save({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})
    return content


def _serializer() -> Any:
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise GradtoolError(
            "writing safetensors needs the package safetensors", hint="install it: python -m pip install safetensors"
        ) from error
    return save
