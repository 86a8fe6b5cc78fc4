"""The state dict of a model before and after a patch: which of the new modules are the planned norms, and which key has
become which.

An insertion into an `nn.Sequential` shifts the names of what comes behind it, so that names alone do not tell: entries
are paired in order, by the last part of their name and by shape, and the new norms are what is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from gradcheck_tool.remedy.patch.proposal import Refused

_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")


@dataclass(frozen=True)
class Pairing:
    """The new norms by the first of their names in the patched model, the keys of the state dict that changed, old to
    new, and those of the new factors of shortcuts."""

    norms: Mapping[str, nn.Module]
    renamed: Mapping[str, str]
    factors: Sequence[str] = ()


def printed(module: nn.Module) -> str:
    """A norm with all its settings, as torch prints it; no name for what is not torch's own."""
    return repr(module) if type(module).__module__.startswith("torch.nn.") else ""


def kinds(model: nn.Module) -> Counter[str]:
    """How many modules of each class a model has; a module in two places counts once."""
    return Counter(type(module).__qualname__ for module in model.modules())


def pair(
    old: Mapping[str, Any],
    old_kinds: Mapping[str, int],
    patched: nn.Module,
    planned: Sequence[str],
    dropped: Collection[str] = (),
    factors: int = 0,
) -> Pairing:
    """Pairs the state dict `old` with that of `patched`, which must have the `planned` norms and `factors` more, and
    nothing else.

    Args:
        old: the state dict of the model as it was; only keys, order and shapes are read.
        old_kinds: `kinds` of that model.
        planned: the norms of the plan, `printed`, in any order.
        dropped: keys of `old` that the patch takes away, and is to take away.
        factors: the number of new parameters of no dimension, which stand for shortcuts.

    Raises:
        Refused: there is more, or less, or something else.
    """
    state = patched.state_dict()
    fresh_factors = _factors(old, patched, factors) if factors else []
    state = {key: value for key, value in state.items() if key not in fresh_factors}
    olds = _groups({key: value for key, value in old.items() if key not in dropped})
    news = _groups(state)
    fresh, pairs = _aligned(olds, news, patched, set(planned))
    norms = {id(module): (name, module) for name in reversed(fresh) for module in [patched.get_submodule(name)]}
    _check_norms(Counter(printed(module) for _, module in norms.values()), Counter(planned))
    _check_kinds(Counter(old_kinds), kinds(patched), Counter(norm.partition("(")[0] for norm in planned))
    renamed = {
        _key(before.name, leaf): _key(after.name, leaf)
        for before, after in pairs
        for leaf, _ in before.entries
        if before.name != after.name
    }
    return Pairing(dict(reversed(norms.values())), renamed, fresh_factors)


def _factors(old: Mapping[str, Any], patched: nn.Module, planned: int) -> list[str]:
    """The parameters of no dimension that a patched model has more than the `old` state dict."""
    known = [key for key, value in old.items() if _shape(value) == ()]
    found = [key for key, parameter in patched.named_parameters() if parameter.shape == () and key not in known]
    if len(found) != planned:
        raise Refused(f"the patch makes {len(found)} factors where {planned} are planned")
    return found


@dataclass(frozen=True)
class _Group:
    """The entries of one module: the last part of each key, and its shape (None for what is no tensor)."""

    name: str
    entries: tuple[tuple[str, tuple[int, ...] | None], ...]


def _groups(state: Mapping[str, Any]) -> list[_Group]:
    def module(key: str) -> str:
        return key.rpartition(".")[0]

    return [
        _Group(name, tuple((key.rpartition(".")[2], _shape(state[key])) for key in keys))
        for name, keys in groupby(state, module)
    ]


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _key(module: str, leaf: str) -> str:
    return f"{module}.{leaf}" if module else leaf


def _aligned(
    olds: list[_Group], news: list[_Group], patched: nn.Module, planned: set[str]
) -> tuple[list[str], list[tuple[_Group, _Group]]]:
    """The names of the new norms, and the old modules with what they are now."""
    modules = dict(patched.named_modules(remove_duplicate=False))
    old_names, by_name = {group.name for group in olds}, {group.name: group.entries for group in news}
    fresh: list[str] = []
    pairs: list[tuple[_Group, _Group]] = []
    for at, new in enumerate(news):
        old = olds[len(pairs)] if len(pairs) < len(olds) else None
        fits = old is not None and old.entries == new.entries
        could_be_new = new.name in modules and printed(modules[new.name]) in planned
        if fits and could_be_new and old is not None and new.name != old.name:
            # The old model has such a norm here: either this is it, or it comes behind this one.
            kept_its_name = by_name.get(old.name) == old.entries and new.name not in old_names
            comes_next = at + 1 < len(news) and news[at + 1].entries == old.entries
            fits = not (kept_its_name or comes_next)
        if fits and old is not None:
            pairs.append((old, new))
        elif could_be_new:
            fresh.append(new.name)
        else:
            raise Refused(_surprise(old, new))
    if len(pairs) < len(olds):
        lost = olds[len(pairs)]
        raise Refused(f"the patched model has no {_key(lost.name, lost.entries[0][0])} in the place of the old one")
    return fresh, pairs


def _surprise(old: _Group | None, new: _Group) -> str:
    if old is None:
        return f"the patched model has {_key(new.name, new.entries[0][0])}, which is neither old nor planned"
    if tuple(entry for entry in new.entries if entry[0] != "bias") == old.entries:
        return f"the patch leaves {_key(new.name, 'bias')} where it was to be dropped"
    return f"the patched model has {_described(new)}, not planned, where the old one has {_described(old)}"


def _described(group: _Group) -> str:
    sizes = ", ".join(f"{leaf} {'x'.join(map(str, shape or ())) or '()'}" for leaf, shape in group.entries[:3])
    return f"{group.name or 'its own parameters'} ({sizes})"


def _check_norms(found: Counter[str], planned: Counter[str]) -> None:
    for norm, count in planned.items():
        if found[norm] != count:
            name = norm.partition(", eps=")[0] + ")"
            raise Refused(f"the patch inserts {found[norm]} {name} where {count} are planned")


def _check_kinds(old: Counter[str], new: Counter[str], planned: Counter[str]) -> None:
    expected = old + planned
    for kind in sorted(expected.keys() | new.keys()):
        if kind not in _CONTAINERS and expected[kind] != new[kind]:
            raise Refused(f"the patched model has {new[kind]} modules {kind}, where {expected[kind]} are planned")
