"""A weights file → the model's parameters and buffers. Read as data only: nothing in the file is executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.sources import display_path
from gradcheck_tool.wording import size

_NESTED = ("state_dict", "model_state_dict", "model", "module", "net")
"""Under which key a checkpoint keeps the state dict: Lightning's, torch's tutorials', DeiT's, DeepSpeed's."""
_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""
_PICKLED = (b"P", b"\x80")
"""How a file of torch.save begins: a zip archive, or, before torch 1.6, a bare pickle."""
_SHOWN = 3


def load_weights(model: nn.Module, file: str) -> None:
    """Loads a `.pt`, `.pth` or `.safetensors` file into `model`.

    Raises:
        GradtoolError: the file is missing, is no state dict, holds more than data, or does not fit the model.
    """
    path = Path(file)
    shown = display_path(str(path.absolute()))
    if not path.is_file():
        raise GradtoolError("no such file of weights", file=shown, hint="give --weights a .pt or .safetensors file")
    stored = _safetensors(path, shown) if path.suffix == ".safetensors" else _pickled(path, shown)
    state = _state_dict(stored, shown)
    own = model.state_dict()
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in own):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    _check_fit(own, state, type(model).__name__, shown)
    try:
        model.load_state_dict(state, assign=any(tensor.is_meta for tensor in own.values()))
    except (RuntimeError, TypeError, ValueError) as error:  # a module's own way to load may refuse what looks right
        raise GradtoolError(f"cannot be loaded into {type(model).__name__}: {error}", file=shown) from error


def _pickled(path: Path, shown: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _first_byte(path) not in _PICKLED:
            raise _unreadable(shown, error) from error
        raise GradtoolError(
            "holds more than tensors (a whole pickled model, perhaps), and nothing in a weights file is executed",
            file=shown,
            hint="save the weights alone: torch.save(model.state_dict(), FILE)",
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError) as error:
        raise _unreadable(shown, error) from error


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _unreadable(shown: str, error: Exception) -> GradtoolError:
    return GradtoolError(
        f"cannot be read as a file of torch.save ({type(error).__name__})",
        file=shown,
        hint="save the weights with torch.save(model.state_dict(), FILE)",
    )


def _safetensors(path: Path, shown: str) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise GradtoolError(
            "reading it needs the package safetensors", file=shown, hint="install it: python -m pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise GradtoolError(f"cannot be read as safetensors: {error}", file=shown) from error


def _state_dict(stored: Any, shown: str) -> dict[str, Any]:
    for key in _NESTED:
        if isinstance(stored, Mapping) and isinstance(stored.get(key), Mapping):
            stored = stored[key]
    if isinstance(stored, Mapping) and any(isinstance(value, Tensor) for value in stored.values()):
        return {str(key): value for key, value in stored.items()}
    what = (
        f"a dict with the keys {_some(map(str, stored))}"
        if isinstance(stored, Mapping)
        else f"a {type(stored).__name__}"
    )
    raise GradtoolError(
        f"holds {what}, not a state dict", file=shown, hint="save the weights with torch.save(model.state_dict(), FILE)"
    )


def _check_fit(own: Mapping[str, Any], state: Mapping[str, Any], name: str, shown: str) -> None:
    wrong = []
    if missing := [key for key in own if key not in state]:
        wrong.append(f"missing {_some(missing)}")
    if unexpected := [key for key in state if key not in own]:
        wrong.append(f"unexpected {_some(unexpected)}")
    shapes = [
        f"{key} is {_by(value)} and not {_by(own[key])}"
        for key, value in state.items()
        if isinstance(value, Tensor)
        and isinstance(own.get(key), Tensor)
        and not is_lazy(own[key])
        and value.shape != own[key].shape
    ]
    if shapes:
        wrong.append(_some(shapes))
    if wrong:
        raise GradtoolError(
            f"the weights do not fit {name}: {'; '.join(wrong)}",
            file=shown,
            hint="give the TARGET the arguments that the weights were trained with, as in model.py:Net(hidden=512)",
        )


def _by(tensor: Tensor) -> str:
    return size(tensor.shape, "a scalar")


def _some(items: Any) -> str:
    items = list(items)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
