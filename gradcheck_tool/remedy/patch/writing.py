"""The text that constructs a norm at a place in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import libcst as cst

from gradcheck_tool.remedy.insert_norm.kinds import LEAST_CHANNELS, MOST_GROUPS
from gradcheck_tool.remedy.patch.imports import module_name
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Layer, Made, Scene, Wanted
from gradcheck_tool.remedy.patch.source import Source
from gradcheck_tool.remedy.patch.spelling import is_constructor, moved, placement, size_of
from gradcheck_tool.results import Insertion

_SCOPES = (cst.FunctionDef, cst.Lambda, cst.Module, cst.ClassDef)
_LOOPS = (cst.ListComp, cst.GeneratorExp, cst.DictComp, cst.SetComp)


def scope(source: Source, node: cst.CSTNode) -> cst.CSTNode | None:
    """The function, class or module in whose body `node` stands."""
    return next((around for around in source.parents(node) if isinstance(around, _SCOPES)), None)


def comprehension(source: Source, node: cst.CSTNode) -> cst.CSTNode | None:
    """The innermost comprehension in which `node` stands, within its function."""
    for around in source.parents(node):
        if isinstance(around, _LOOPS):
            return around
        if isinstance(around, _SCOPES):
            return None
    return None


def constructor(scene: Scene, layer: Layer) -> Made | None:
    """What constructs the layer, as far as it is in the user's files."""
    return next(scene.made(layer.stack), None)


def norm_text(
    scene: Scene,
    source: Source,
    at: cst.CSTNode,
    made: Made | None,
    group: Sequence[Wanted],
    otherwise: str | None = None,
) -> str:
    """The expression that constructs the norm behind each layer of `group`, all made at one place; what it needs is
    imported.

    Args:
        scene: what is known.
        source: the file.
        at: the node beside which the text will stand: the names in the size must be known there.
        made: what constructs the layers.
        group: the norms that this text will make.
        otherwise: an expression of the size, for where the constructor has none.

    Raises:
        Refused: the norms are of several kinds, or the size cannot be told by one expression.
    """
    size, extra, behind, node = None, "", "", None
    if made is not None and made.source is source:
        node = made.node
        same = scope(source, node) is scope(source, at)
        inside = comprehension(source, node)
        if same and (inside is None or inside is comprehension(source, at) or inside is at):
            size, extra = size_of(source, node, scene.modules.get(group[0].layer)), placement(source, node)
            behind = source.text[source.outer_span(node)[1] : source.outer_span(moved(source, node))[1]]
    features = {wanted.insertion.num_features for wanted in group}
    size = size or otherwise or (str(next(iter(features))) if len(features) == 1 else None)
    if size is None:
        raise Refused(f"one place makes layers of {len(features)} sizes, and no expression there says which")
    return constructing(scene, source, node, group, size, extra) + behind


def constructing(
    scene: Scene,
    source: Source,
    layer: cst.BaseExpression | None,
    group: Sequence[Wanted],
    size: str,
    extra: str = "",
) -> str:
    """The expression that constructs one norm for each of `group`, whose `size` and `extra` arguments are given.

    Raises:
        Refused: the norms are of several kinds, or no expression tells their numbers of groups.
    """
    kinds = sorted({wanted.insertion.norm for wanted in group})
    if len(kinds) > 1:
        raise Refused(f"one place makes layers for {' and '.join(kinds)}")
    norm = group[0].insertion
    call = norm.constructed(size, _groups([wanted.insertion for wanted in group], size))
    return f"{class_name(scene, source, layer, norm.norm)}{call.removeprefix(norm.norm).removesuffix(')')}{extra})"


def _groups(norms: Sequence[Insertion], size: str) -> str | None:
    """The number of groups of each of the `norms`: a number, or where they differ an expression of their `size`."""
    counts = {norm.groups for norm in norms}
    if len(counts) == 1:
        return None
    least = LEAST_CHANNELS
    name = size if size.replace(".", "").isidentifier() else f"({size})"
    ways: tuple[tuple[str, Callable[[int], int]], ...] = (
        (f"{name} // {least}", lambda channels: channels // least),
        (f"min({MOST_GROUPS}, {name} // {least})", lambda channels: min(MOST_GROUPS, channels // least)),
        (f"max(1, {name} // {least})", lambda channels: max(1, channels // least)),
        (
            f"max(1, min({MOST_GROUPS}, {name} // {least}))",
            lambda channels: max(1, min(MOST_GROUPS, channels // least)),
        ),
    )
    for text, count in ways:
        if all(norm.groups == count(norm.num_features) for norm in norms):
            return text
    raise Refused("one place makes layers whose numbers of groups no expression tells")


def class_name(scene: Scene, source: Source, layer: cst.BaseExpression | None, name: str) -> str:
    """How the file names the class `name` of torch.nn; where it has to be imported, that is noted.

    Args:
        scene: where that is noted.
        source: the file.
        layer: what constructs the layer there, whose spelling is followed; None where that is not in sight.
        name: as `BatchNorm1d`.
    """
    spelled: str | None
    if isinstance(layer, cst.Call) and is_constructor(layer):
        spelled = source.of(layer.func.value) if isinstance(layer.func, cst.Attribute) else None
    else:
        spelled = module_name(source)
    if spelled is not None:
        return f"{spelled}.{name}"
    scene.require(source, name)
    return name
