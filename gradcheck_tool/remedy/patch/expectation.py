"""What a patched model has to be and to do, as plain data, and the check that it is and does so.

`expect` takes it from the model as it is and from the rewritten graph; `check` builds the patched model and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs, batch_size, resized
from gradcheck_tool.remedy.patch.behaviour import Behaviour, behaviour, run
from gradcheck_tool.remedy.patch.comparison import agree, compare, compare_factors
from gradcheck_tool.remedy.patch.pairing import kinds, pair, printed
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.state import preserved, training_mode
from gradcheck_tool.structures import tensors_in
from gradcheck_tool.wording import size

_FACTOR = 0.5
"""What the factors of shortcuts are for the comparison: at zero no block would matter."""


@dataclass(frozen=True)
class Expected:
    """What a patched model has to be (the old `state` but for what is `dropped`, as many modules of each kind, the
    `norms`, as `pairing.printed` has them, and so many `factors` of shortcuts, which start at zero), and what it has to
    do on each of some inputs, with all factors at `_FACTOR`."""

    state: Mapping[str, Any]
    kinds: Mapping[str, int]
    norms: Sequence[str]
    dropped: Sequence[str]
    seed: int
    runs: Sequence[tuple[Inputs, Behaviour]]
    """None at all for a model without weights, which cannot be run."""
    factors: int = 0


@dataclass(frozen=True)
class Checked:
    """A patched model that is what was expected: the keys of the state dict that changed, old to new, the names that
    each new norm of the graph has there, and the keys of the factors of new shortcuts."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    norms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    factors: Sequence[str] = ()


def expect(model: nn.Module, inputs: Inputs, fixed: nn.Module, seed: int = 0) -> Expected:
    """What the patched source of `model` has to be and to do.

    Args:
        model: as the user's source builds it; left as it was.
        inputs: two samples at least. Where they have a batch, another size of it is tried too.
        fixed: the graph of `model`, with the norms, and with its weights; left as it was.
        seed: of whatever is drawn while they run.

    Raises:
        Refused: `fixed` does not run in both modes.
    """
    old = {name for name, _ in model.named_modules()}
    norms = {name: module for name, module in fixed.named_modules() if name not in old}
    state = model.state_dict()
    has_weights = not any(tensor.is_meta for tensor in tensors_in(list(state.values())))
    tried = [inputs, *other_batch(model, inputs, seed)] if has_weights else []
    runs: list[tuple[Inputs, Behaviour]] = []
    factors = {key: p for key, p in fixed.named_parameters() if p.shape == () and key not in state}
    with preserved(fixed, values=True):
        _set(list(factors.values()))
        for one in tried:
            try:
                found = behaviour(fixed, norms, one, seed)
            except GradtoolError as error:
                if runs:  # not at this batch size
                    break
                raise Refused(f"the fixed graph cannot be compared with: {error.message}") from error
            buffers = {key: value for key, value in found.buffers.items() if key in state}
            gradients = {key: value for key, value in found.gradients.items() if key in state or key in factors}
            runs.append((one, replace(found, buffers=buffers, gradients=gradients)))
    printed_norms = [printed(module) for module in norms.values()]
    kept = {key for key, _ in fixed.named_parameters(remove_duplicate=False)}
    dropped = tuple(key for key, _ in model.named_parameters(remove_duplicate=False) if key not in kept)
    return Expected(state, kinds(model), printed_norms, dropped, seed, runs, len(factors))


def check(build: Callable[[], nn.Module], expected: Expected) -> Checked:
    """Builds the patched model and compares it.

    Raises:
        Refused: it does not build, or is or does something else than expected.
    """
    try:
        model = build()
    except GradtoolError as error:
        raise Refused(f"the patched source does not load: {said(error)}") from error
    pairing = pair(expected.state, expected.kinds, model, expected.norms, expected.dropped, expected.factors)
    factors = [model.get_parameter(key) for key in pairing.factors]
    if any(not factor.is_meta and bool(factor.detach() != 0) for factor in factors):
        raise Refused("a factor of the patched model does not start at zero")
    _load(model, expected, pairing.renamed)
    _set(factors)
    for norm in pairing.norms.values():
        norm.reset_parameters()  # type: ignore[operator]  # a model's own initialization may reach the new norms too
    called: dict[str, str] = {}
    for inputs, wanted in expected.runs:
        try:
            found = behaviour(model, pairing.norms, inputs, expected.seed)
        except GradtoolError as error:
            raise Refused(f"the patched model does not run: {said(error)}") from error
        of_factors = [key for key in wanted.gradients if key not in expected.state]
        own = {key: norm for key, norm in wanted.gradients.items() if key in expected.state}
        called |= compare(found, replace(wanted, gradients=own), pairing.renamed, _sizes(inputs))
        # Which of them is which no name tells, so they are compared in the order of their size.
        compare_factors(
            sorted(found.gradients.get(key, 0.0) for key in pairing.factors),
            sorted(wanted.gradients[key] for key in of_factors),
            _sizes(inputs),
        )
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    norms = {name: names[id(pairing.norms[patched])] for name, patched in called.items()}
    return Checked(pairing.renamed, norms, pairing.factors)


def other_batch(model: nn.Module, inputs: Inputs, seed: int) -> list[Inputs]:
    """The inputs at another batch size, if the model takes one."""
    batch = batch_size(inputs)
    if batch is None:
        return []
    other = resized(inputs, batch // 2 if batch > 3 else batch + 1, seed + 1)
    try:
        with preserved(model, values=True), training_mode(model):
            run(model, other, seed)
    except GradtoolError:
        return []
    return [other]


def _set(factors: Sequence[nn.Parameter]) -> None:
    with torch.no_grad():
        for factor in factors:
            factor.fill_(_FACTOR)


def _load(model: nn.Module, expected: Expected, renamed: Mapping[str, str]) -> None:
    """Puts the old weights into the patched model, as its user will."""
    state = {renamed.get(key, key): value for key, value in expected.state.items() if key not in expected.dropped}
    state = {key: value for key, value in state.items() if isinstance(value, Tensor) and not value.is_meta}
    if not state:
        return
    try:
        model.load_state_dict(state, strict=False)
    except Exception as error:  # the border to the user's code: a module may load in its own way
        raise Refused(f"the old weights cannot be loaded into the patched model: {error}") from error
    now = model.state_dict()
    for key, value in state.items():
        if not agree(now[key].cpu(), value.cpu()):
            raise Refused(f"the old value of {key} does not arrive in the patched model")


def said(error: GradtoolError) -> str:
    """The message, with the place in the user's file."""
    place = f"{error.file}:{error.line}: " if error.file and error.line else f"{error.file}: " if error.file else ""
    return place + error.message


def _sizes(inputs: Inputs) -> str:
    tensors = inputs.tensors
    return ", ".join(size(tensor.shape, "a number") for tensor in tensors[:3]) or "no tensors"
