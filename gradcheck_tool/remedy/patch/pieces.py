"""Layers of a model → the expressions that give them: `self.fc1`, `self.body`, `[block.fc for block in self.blocks]`.

A piece is one such expression, for one layer or for a list of them. Lists are preferred: code that walks through a list
stays right when that gets longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from torch import nn

T = TypeVar("T")
_MOST_PIECES = 6


@dataclass(frozen=True)
class Walk:
    """A loop over `iterable` whose `variable` is, where the `condition` holds, a layer or has it as `suffix`."""

    variable: str
    iterable: str
    condition: str = ""
    suffix: str = ""

    @property
    def text(self) -> str:
        """The list of the layers."""
        end = f" if {self.condition}" if self.condition else ""
        return f"[{self.variable}{self.suffix} for {self.variable} in {self.iterable}{end}]"


@dataclass(frozen=True)
class Piece(Generic[T]):
    """The layers `items`: the one that `base` is, or those from `low` to `high` of the `total` in the list that `base`
    is, which `walk` makes where the model has no such list itself. Of a subclass of Sequential a slice is not
    `is_sliceable`: its own constructor would be called."""

    base: str
    items: tuple[T, ...]
    is_list: bool = False
    low: int = 0
    total: int = 1
    walk: Walk | None = None
    is_sliceable: bool = True

    @property
    def high(self) -> int:
        return self.low + len(self.items)

    @property
    def is_whole(self) -> bool:
        """Whether it is all that `base` gives."""
        return not self.is_list or len(self.items) == self.total

    @property
    def text(self) -> str:
        """The expression. A slice ends as far from the end as it does now."""
        if self.is_whole:
            return self.base
        end = "" if self.high == self.total else str(self.high - self.total)
        return f"{self.base if self.is_sliceable else f'list({self.base})'}[{self.low or ''}:{end}]"

    @property
    def single(self) -> str:
        """The expression of the one layer."""
        if not self.is_list:
            return self.base
        return f"{self.base}[{-1 if self.low and self.high == self.total else self.low}]"


def sliced(piece: Piece[T], start: int, end: int) -> Piece[T]:
    """The items from `start` to `end` of a piece."""
    return replace(piece, items=piece.items[start:end], low=piece.low + start)


def named(piece: Piece[T], variable: str) -> Piece[T]:
    """The piece, once what `base` gives is in a variable."""
    return replace(piece, base=variable, walk=None, is_sliceable=True)


def pieces_of(
    model: nn.Module,
    layers: Mapping[str, T],
    root: str,
    spell: Callable[[str], str],
    alike: Callable[[Sequence[T]], bool],
) -> list[Piece[T]]:
    """The expressions of some modules.

    Args:
        model: that has them.
        layers: what to carry along for each, by their names, in the order of `model.named_modules()`.
        root: the expression of the model.
        spell: how the file names a class of torch.nn.
        alike: whether items may well be mixed in one list.
    """
    modules = dict(model.named_modules())
    groups: dict[str | None, dict[str, T]] = {}
    pieces: list[Piece[T]] = []
    for name, item in layers.items():
        groups.setdefault(_container(modules, name), {})[name] = item
    for container, group in groups.items():
        if container is None:
            pieces += _one_by_one(modules, group, root)
        else:
            pieces += _of_container(modules, container, group, root, spell, alike)
    order = {id(item): at for at, item in enumerate(layers.values())}
    pieces.sort(key=lambda piece: order[id(piece.items[0])])
    in_parts = sum(piece.walk is not None and bool(piece.walk.condition) for piece in pieces) > 1
    if len(pieces) > _MOST_PIECES or in_parts:
        walked = _filtered(list(modules), f"{root}.modules()", modules, layers, spell)
        return [walked] if walked is not None else pieces
    return pieces


def _one_by_one(modules: Mapping[str, nn.Module], layers: Mapping[str, T], root: str) -> list[Piece[T]]:
    return [Piece(access(modules, name, root), (item,)) for name, item in layers.items()]


def access(modules: Mapping[str, nn.Module], name: str, root: str) -> str:
    """The expression of a submodule, or of a parameter: `self.body[3].fc`."""
    text, parent = root, ""
    for part in name.split(".") if name else ():
        holder = modules[parent]
        if part.isidentifier():
            text += f'["{part}"]' if isinstance(holder, nn.ModuleDict) else f".{part}"
        elif part.isdigit() and isinstance(holder, (nn.ModuleList, nn.Sequential, nn.ParameterList)):
            text += f"[{part}]"
        elif isinstance(holder, nn.ModuleDict):
            text += f'["{part}"]'
        else:
            text = f'getattr({text}, "{part}")'
        parent = f"{parent}.{part}" if parent else part
    return text


def _container(modules: Mapping[str, nn.Module], name: str) -> str | None:
    """The outermost list in which a module lies."""
    parts = name.split(".")
    for end in range(len(parts)):
        parent = ".".join(parts[:end])
        if isinstance(modules[parent], (nn.ModuleList, nn.Sequential)):
            return parent
    return None


def _of_container(
    modules: Mapping[str, nn.Module],
    container: str,
    group: Mapping[str, T],
    root: str,
    spell: Callable[[str], str],
    alike: Callable[[Sequence[T]], bool],
) -> list[Piece[T]]:
    """The layers in a list: the list itself or a slice of it, one list for each layer of a block, or all of a class."""
    text = access(modules, container, root)
    prefix = f"{container}." if container else ""
    children = [f"{prefix}{key}" for key, _ in modules[container].named_children()]
    items = tuple(group.values())
    low = _place(children, list(group))
    if low is not None and len({_torch_class(modules[child]) for child in children}) == 1 and len(items) > 1:
        return [Piece(text, items, True, low, len(children), is_sliceable=_is_sliceable(modules[container]))]
    ends: dict[str, dict[str, T]] = {}
    for name, item in group.items():
        ends.setdefault(name.removeprefix(prefix).partition(".")[2], {})[name] = item
    if len(ends) == 1 or not alike(items):
        pieces = [_of_blocks(modules, container, end, layers, text) for end, layers in ends.items()]
        found = [piece for piece in pieces if piece is not None]
        if len(found) == len(pieces) <= _MOST_PIECES:
            return found
    inside = [name for name in modules if name.startswith(prefix) and name != container]
    for names, iterable in ((children, text), (inside, f"{text}.modules()")):
        walked = _filtered(names, iterable, modules, group, spell)
        if walked is not None:
            return [walked]
    return _one_by_one(modules, group, root)


def _of_blocks(
    modules: Mapping[str, nn.Module], container: str, end: str, layers: Mapping[str, T], text: str
) -> Piece[T] | None:
    """`[block.fc for block in self.blocks]`, for the layers that neighbours in a list of blocks call alike."""
    children = [f"{container}.{key}".removeprefix(".") for key, _ in modules[container].named_children()]
    blocks = [name.removesuffix(f".{end}") for name in layers]
    low = _place(children, blocks)
    if not end or low is None or (len(layers) < 2 and len(children) > 1):
        return None
    suffix = access({"": modules[blocks[0]], **_below(modules, blocks[0])}, end, "")
    among = Piece(text, tuple(blocks), True, low, len(children), is_sliceable=_is_sliceable(modules[container]))
    walk = Walk("block", among.text, "", suffix)
    return Piece(walk.text, tuple(layers.values()), True, 0, len(layers), walk)


def _below(modules: Mapping[str, nn.Module], name: str) -> dict[str, nn.Module]:
    """The modules inside of one, by their names there."""
    inside = {other: module for other, module in modules.items() if other.startswith(f"{name}.")}
    return {other.removeprefix(f"{name}."): module for other, module in inside.items()}


def _is_sliceable(container: nn.Module) -> bool:
    return type(container) in (nn.Sequential, nn.ModuleList)


def _place(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Where `wanted` stands in `names`, as a whole."""
    low = names.index(wanted[0]) if wanted[0] in names else 0
    return low if list(names[low : low + len(wanted)]) == list(wanted) else None


def _filtered(
    names: Sequence[str],
    iterable: str,
    modules: Mapping[str, nn.Module],
    layers: Mapping[str, T],
    spell: Callable[[str], str],
) -> Piece[T] | None:
    """The layers as those of their classes among `names`; None where others of these classes lie between them."""
    classes = {_torch_class(modules[name]) for name in layers}
    if None in classes or len(layers) < 2:
        return None
    kinds = tuple(sorted((cls for cls in classes if cls is not None), key=lambda cls: cls.__name__))
    found = [name for name in names if isinstance(modules[name], kinds)]
    wanted = list(layers)
    low = _place(found, wanted)
    if low is None:
        return None
    spelled = [spell(cls.__name__) for cls in kinds]
    choice = spelled[0] if len(spelled) == 1 else f"({', '.join(spelled)})"
    walk = Walk("layer", iterable, f"isinstance(layer, {choice})")
    return Piece(walk.text, tuple(layers.values()), True, low, len(found), walk)


def _torch_class(module: nn.Module) -> type[nn.Module] | None:
    """The class of torch.nn that a layer is of, or that its class is derived from."""
    for cls in type(module).__mro__:
        if cls is not nn.Module and getattr(nn, cls.__name__, None) is cls:
            found: type[nn.Module] = cls
            return found
    return None
