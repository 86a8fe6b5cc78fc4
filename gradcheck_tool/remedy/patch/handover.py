"""What is expected of a patched model, as files: written by `save` in one process, read by `load` in another.

The files hold tensors and plain values alone, and are read as data. Of inputs that are made of anything else only the
tensors are written: the other process finds inputs of the same structure where these came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradcheck_tool.inputs import Inputs
from gradcheck_tool.remedy.patch.behaviour import Behaviour
from gradcheck_tool.remedy.patch.expectation import Expected
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.structures import map_tensors

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)


def save(expected: Expected, folder: Path) -> None:
    """Writes `expected` into `folder`."""
    state = {key: value if isinstance(value, Tensor) else None for key, value in expected.state.items()}
    torch.save(state, folder / "state.pt")
    rest = {
        "kinds": dict(expected.kinds),
        "norms": list(expected.norms),
        "dropped": list(expected.dropped),
        "seed": expected.seed,
        "factors": expected.factors,
        "runs": [{"inputs": _packed(inputs), "behaviour": _fields(found)} for inputs, found in expected.runs],
    }
    torch.save(rest, folder / "rest.pt")


def load(folder: Path, elsewhere: Callable[[], Inputs]) -> Expected:
    """Reads what `save` wrote.

    Args:
        elsewhere: gives inputs of the structure of those that were saved, where that was not plain enough to be saved.

    Raises:
        Refused: the structure is another one.
    """
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True, mmap=True)
    rest: dict[str, Any] = torch.load(folder / "rest.pt", weights_only=True)
    runs = [(_unpacked(run["inputs"], elsewhere), Behaviour(**run["behaviour"])) for run in rest.pop("runs")]
    return Expected(state=state, runs=runs, **rest)


def _fields(found: Behaviour) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Behaviour.__dataclass_fields__}


def _packed(inputs: Inputs) -> dict[str, Any]:
    args, kwargs = list(inputs.args), dict(inputs.kwargs)
    if all(map(_is_plain, (*args, *kwargs.values()))):
        return {"args": args, "kwargs": kwargs}
    return {"tensors": [tensor.detach() for tensor in inputs.tensors]}


def _is_plain(value: Any) -> bool:
    """Whether a file that is read as data alone can hold this."""
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(isinstance(key, (str, int)) and _is_plain(part) for key, part in value.items())
    return isinstance(value, _PLAIN) or type(value) is Tensor


def _unpacked(packed: Mapping[str, Any], elsewhere: Callable[[], Inputs]) -> Inputs:
    if "args" in packed:
        return Inputs(tuple(packed["args"]), packed["kwargs"])
    model = elsewhere()
    tensors = list(packed["tensors"])
    if len(model.tensors) != len(tensors):
        raise Refused("the patched source gives other example inputs than the old one")
    args, kwargs = map_tensors((model.args, dict(model.kwargs)), lambda _: tensors.pop(0))
    return replace(model, args=args, kwargs=kwargs)
