"""An input that a model takes, found from the model: its first layers say how many channels or features, and of which
rank; sizes are tried, on meta, until the forward pass goes through.

`guesses` lists what is tried for one argument, `infer` tries.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import Inputs
from gradcheck_tool.inputs.draw import draw, embedding_sizes, float_dtype
from gradcheck_tool.inputs.guesses import Guess, guesses, named_guesses
from gradcheck_tool.inputs.trial import Trial, attempt

_MOST_TRIALS = 400
_MOST_VERIFIED = 200_000_000
"""Parameters above which token ids are not verified by a real pass."""
_LARGEST_IMAGE, _LONGEST_SIGNAL = 1024, 1 << 17
"""The largest sizes that are looked through: pixels a side, and samples (eight seconds of speech)."""
_SHOWN = 6


def infer(model: nn.Module, seed: int = 0) -> Inputs:
    """Inputs that `model` takes, and in `note` how they were found.

    Raises:
        GradtoolError: none was found; it lists what was tried.
    """
    required = _required_arguments(model)
    if not required and not _arguments(model):
        return Inputs((), {}, "inferred", "the model takes no input", False)
    names = required or _arguments(model)[:1]
    tried: dict[tuple[Guess, ...], Trial] = {}
    misfit: Guess | None = None  # of the sizes tried last: it reached a Linear layer, with the wrong number of features
    for combination in [*itertools.islice(_combinations(model, names), _MOST_TRIALS), ()]:
        if misfit is not None and (not combination or combination[0].family != misfit.family):
            found = _fitted(model, names[0], misfit, seed)
            if found is not None:
                return found
            misfit = None
        if combination:
            inputs = _inputs(model, names, combination, seed)
            trial = tried[combination] = _try(model, inputs, combination)
            if trial.passed:
                return inputs
            if len(combination) == 1 and trial.misfit and combination[0].resizable:
                misfit = combination[0]
    raise _nothing_fits(model, names, tried)


def _try(model: nn.Module, inputs: Inputs, combination: Sequence[Guess]) -> Trial:
    """A trial on meta; token ids again for real, since meta does not see an index that is out of range."""
    trial = attempt(model, inputs)
    tokens = any(guess.dtype == torch.int64 for guess in combination) and embedding_sizes(model)
    if not trial.passed or not tokens:
        return trial
    elements = sum(0 if is_lazy(parameter) else parameter.numel() for parameter in model.parameters())
    return attempt(model, inputs, for_real=True) if elements <= _MOST_VERIFIED else trial


def _fitted(model: nn.Module, name: str, guess: Guess, seed: int) -> Inputs | None:
    """Looks, by bisection, for the size at which the features that reach a Linear layer are as many as it needs.

    The number of features grows with the size. None where no size fits.
    """
    low, high = 1, _LONGEST_SIGNAL if guess.resizable == 1 else _LARGEST_IMAGE
    while low <= high:
        size = (low + high) // 2
        resized = guess.at(size)
        inputs = _inputs(model, [name], [resized], seed)
        trial = attempt(model, inputs)
        if trial.passed:
            return inputs
        too_small = trial.misfit[0] < trial.misfit[1] if trial.misfit else _is_too_small(trial)
        if too_small:
            low = size + 1
        else:
            high = size - 1
    return None


def _is_too_small(trial: Trial) -> bool:
    """Whether a kernel did not fit into what came to it, by torch's messages."""
    return any(words in str(trial.error) for words in ("greater than actual input size", "too small"))


def _inputs(model: nn.Module, names: Sequence[str], combination: Sequence[Guess], seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    drawn = tuple(
        draw(model, guess.size, guess.dtype or float_dtype(model), generator, name)
        for name, guess in zip(names, combination, strict=True)
    )
    reasons = list(dict.fromkeys(guess.reason for guess in combination))
    return Inputs(drawn, {}, "inferred", "read off " + ", ".join(reasons), True)


def _combinations(model: nn.Module, names: Sequence[str]) -> Iterator[tuple[Guess, ...]]:
    """What to try for the arguments together: the same for all, one layer's each, then mixtures of the likeliest."""
    general = guesses(model, len(names))
    if len(names) == 1:
        yield from ((guess,) for guess in [*named_guesses(names[0], general), *general])
        return
    pools = [[*named_guesses(name, general), *general] for name in names]
    seen: set[tuple[Guess, ...]] = set()
    most = max(2, int(_MOST_TRIALS ** (1 / len(names))))
    layers = list(dict.fromkeys(guess.reason for guess in general))
    firsts = [next(guess for guess in general if guess.reason == layer) for layer in layers]
    by_name = [named_guesses(name, general) for name in names]
    if any(by_name):  # a mask beside the ids: what has a telling name takes its own, the others one and the same
        for guess in general[:12]:
            for special in itertools.product(*([*own[:4]] or [guess] for own in by_name)):
                yield from _new(tuple(special), seen)
    for guess in general[:12]:
        yield from _new((guess,) * len(names), seen)
    if len(firsts) >= len(names):
        yield from _new(tuple(firsts[: len(names)]), seen)
    mixed = [[*own[:2], *firsts, *pool][:most] for own, pool in zip(by_name, pools, strict=True)]
    for mixture in itertools.product(*mixed):
        yield from _new(mixture, seen)


def _new(combination: tuple[Guess, ...], seen: set[tuple[Guess, ...]]) -> Iterator[tuple[Guess, ...]]:
    if combination not in seen:
        seen.add(combination)
        yield combination


def _arguments(model: nn.Module) -> list[str]:
    """The names that `forward` takes by position; one for `*args`."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (ValueError, TypeError):
        return ["input"]  # no signature to read: one tensor, as nearly always
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return [parameter.name for parameter in parameters if parameter.kind in by_position]


def _required_arguments(model: nn.Module) -> list[str]:
    try:
        parameters = inspect.signature(model.forward).parameters
    except (ValueError, TypeError):
        return ["input"]
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, p in parameters.items() if p.kind in by_position and p.default is p.empty]


def _nothing_fits(model: nn.Module, names: Sequence[str], tried: Mapping[tuple[Guess, ...], Trial]) -> GradtoolError:
    """The error that lists what was tried, and says what the likeliest trial, the first one, raised and where."""
    shapes = list(dict.fromkeys(" and ".join(map(str, combination)) for combination in tried))
    more = f" and {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else ""
    listed = ", ".join(shapes[:_SHOWN]) + more if shapes else "nothing: it has no layer that tells a size"
    first = next(iter(tried), ())
    raised = blamed(tried[first].error or RuntimeError(), "the first one") if tried else None
    why = f"; {raised.message}" if raised else ""
    example = " ".join(f"--input {guess}" for guess in first) or "--input 32x784"
    shown = f" ({', '.join(names)})" if len(names) > 1 else ""
    return GradtoolError(
        f"could not find an input that {type(model).__name__}{shown} takes; tried {listed}{why}",
        file=raised.file if raised else None,
        line=raised.line if raised else None,
        hint=f"give {'one' if len(names) == 1 else 'one for each argument'} with {example}",
        user_traceback=raised.user_traceback if raised else None,
    )
