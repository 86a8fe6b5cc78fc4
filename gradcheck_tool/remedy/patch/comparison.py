"""Whether two models with new norms did the same: the `Behaviour` of the patched source against that of the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradcheck_tool.remedy.patch.behaviour import Behaviour
from gradcheck_tool.remedy.patch.proposal import Refused

_TOLERANCES = {torch.float64: 1e-7, torch.complex128: 1e-7, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest difference of two tensors, relative to the largest value; 1e-5 for every other dtype."""
_TOLERANCE = 1e-5
_OFF_CPU = 100
"""So many times as much is borne with on a GPU, which sums in any order, and may round the factors."""
_OF_GRADIENTS = 1e-3
"""Largest relative difference of the gradient norms of a parameter."""
_NOISE = 1e-5
"""Gradient norms below this share of the largest one are rounding noise, as those of biases in front of a norm."""


def compare(found: Behaviour, expected: Behaviour, renamed: Mapping[str, str], sizes: str) -> dict[str, str]:
    """That the patched source did what the graph did.

    Args:
        renamed: keys of the state dict that changed, from those of `expected` to those of `found`.
        sizes: of the inputs, for the reason.

    Returns:
        The names of the norms that were called, those of `expected` to those of `found`.

    Raises:
        Refused: it did not.
    """
    slack = 1 if expected.device == "cpu" else _OFF_CPU
    _compare_outputs(found.training, expected.training, f"in training, on {sizes},", slack)
    if len(found.statistics) != len(expected.statistics):
        calls = f"{len(found.statistics)} times in a pass, not {len(expected.statistics)}"
        raise Refused(f"the patched model calls the new norms {calls}")
    places = _paired(found.statistics, expected.statistics, slack)
    if places is None:
        raise Refused(f"the new norms of the patched model see other values than planned, on {sizes}")
    for key, buffer in expected.buffers.items():
        new_key = renamed.get(key, key)
        if new_key in found.buffers and not agree(found.buffers[new_key], buffer, slack=slack):
            raise Refused(f"the patched model leaves another {new_key} after training on {sizes}")
    _compare_outputs(found.evaluation, expected.evaluation, f"in evaluation, on {sizes},", slack)
    _compare_gradients(
        found.gradients, {renamed.get(key, key): norm for key, norm in expected.gradients.items()}, sizes
    )
    return {name: found.called[at] for name, at in zip(expected.called, places, strict=True)}


def agree(found: Tensor, expected: Tensor, scale: float = 0.0, slack: float = 1) -> bool:
    """Whether two tensors are the same, up to rounding at the scale of the largest value (or of `scale`)."""
    if found.shape != expected.shape:
        return False
    if not (expected.is_floating_point() or expected.is_complex()):
        return torch.equal(found, expected)
    return _difference(found, expected, scale) <= slack * _TOLERANCES.get(expected.dtype, _TOLERANCE)


def _difference(found: Tensor, expected: Tensor, scale: float = 0.0) -> float:
    """The largest difference, relative to the largest value (or `scale`, if that is more). Not a number agrees with
    not a number, infinity with infinity; where they do not agree, infinity."""
    wide = torch.complex128 if expected.is_complex() else torch.float64
    now, wanted = found.to(wide), expected.to(wide)
    finite, infinite = wanted.isfinite(), wanted.isinf()
    if not torch.equal(now.isnan(), wanted.isnan()) or not torch.equal(now.isfinite(), finite):
        return math.inf
    if not torch.equal(now[infinite], wanted[infinite]):
        return math.inf
    largest = float((now[finite] - wanted[finite]).abs().max()) if bool(finite.any()) else 0.0
    unit = max(float(wanted[finite].abs().max()), scale) if largest else 1.0
    return largest / unit if unit else math.inf


def _compare_outputs(found: Sequence[Tensor], expected: Sequence[Tensor], where: str, slack: float) -> None:
    if len(found) != len(expected):
        raise Refused(f"{where} the patched model returns {len(found)} tensors, not {len(expected)}")
    for now, wanted in zip(found, expected, strict=True):
        if now.shape != wanted.shape or now.dtype != wanted.dtype:
            raise Refused(f"{where} the patched model returns {_kind(now)}, not {_kind(wanted)}")
        if not agree(now, wanted, slack=slack):
            share = _difference(now, wanted)
            raise Refused(f"{where} the patched model's output is not that of the fixed graph (off by {share:.2g})")


def _kind(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape)) or 'a single'} {str(tensor.dtype).removeprefix('torch.')}"


def _paired(
    found: Sequence[Mapping[str, Tensor]], expected: Sequence[Mapping[str, Tensor]], slack: float
) -> list[int] | None:
    """For each of the expected statistics, where the same are found; None where they are not. Norms on parallel ways
    may be called in another order."""
    left = list(range(len(found)))
    places = []
    for wanted in expected:
        at = next((at for at in left if _same_statistics(found[at], wanted, slack)), None)
        if at is None:
            return None
        left.remove(at)
        places.append(at)
    return places


def _same_statistics(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], slack: float) -> bool:
    """Whether the statistics of two norms agree: means to a share of the spread, since they may well be zero."""
    variance = expected.get("running_var")
    spread = 0.0 if variance is None else math.sqrt(float(variance.max()))
    scales = {"running_mean": spread if math.isfinite(spread) else 0.0}
    return found.keys() == expected.keys() and all(
        agree(found[name], wanted, scales.get(name, 0.0), slack) for name, wanted in expected.items()
    )


def _compare_gradients(found: Mapping[str, float], expected: Mapping[str, float], sizes: str) -> None:
    """By the norm of each parameter's, which need not be finite."""
    largest = max((norm for norm in expected.values() if math.isfinite(norm)), default=0.0)
    for key, wanted in expected.items():
        now = found.get(key, 0.0)
        agrees = math.isclose(now, wanted, rel_tol=_OF_GRADIENTS, abs_tol=_NOISE * largest)
        if not agrees and (math.isfinite(now) or math.isfinite(wanted)):
            norms = f"the norm {now:.3g}, not {wanted:.3g}"
            raise Refused(f"the gradient of {key} in the patched model has {norms}, on {sizes}")


def compare_factors(found: Sequence[float], expected: Sequence[float], sizes: str) -> None:
    """That the factors of shortcuts have gradients of the norms `expected`; both are sorted.

    Raises:
        Refused: they have others.
    """
    now, wanted = ({str(number): norm for number, norm in enumerate(norms)} for norms in (found, expected))
    try:
        _compare_gradients(now, wanted, sizes)
    except Refused as other:
        raise Refused(
            f"the factors of the patched model's shortcuts get other gradients than planned, on {sizes}"
        ) from other
