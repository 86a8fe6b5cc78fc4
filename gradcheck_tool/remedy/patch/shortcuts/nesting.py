"""Shortcuts in an `nn.Sequential`: the elements that are a block become one element, `Shortcut(nn.Linear(64, 64),
nn.ReLU())`, of a class that is added to the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import libcst as cst
from torch import nn

from gradcheck_tool.remedy.patch.calls import free_name, names_in
from gradcheck_tool.remedy.patch.elements import Place, place_of
from gradcheck_tool.remedy.patch.names import free
from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.scene import Layer, Scene, is_weight_layer
from gradcheck_tool.remedy.patch.shortcuts.around import Around, keeps_size
from gradcheck_tool.remedy.patch.shortcuts.factors import factor_text
from gradcheck_tool.remedy.patch.source import Source, Splice, every
from gradcheck_tool.remedy.patch.spelling import input_size_of, size_of
from gradcheck_tool.remedy.patch.styling import width_of
from gradcheck_tool.remedy.patch.writing import class_name, comprehension, constructor

_CLASS = '''class {name}({sequential}):
    """x + scale * block(x). The scale starts at zero, so that the block starts as the identity."""

    def __init__(self, *block):
        super().__init__(*block)
        self.scale = {factor}

    def forward(self, x):
        return x + self.scale * super().forward(x)


'''


class Nesting:
    """The blocks of Sequentials that become elements; `made` counts the modules of each new class."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.made: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    def nest(self, group: Sequence[Around]) -> None:
        """Makes each block of `group`, whose layers are made at one place, one element of its Sequential.

        Raises:
            Refused: with the reason.
        """
        first = group[0]
        places = self._places(first)
        spots = [place.spot for place in places]
        if any([place.spot for place in self._places(around)] != spots for around in group[1:]):
            raise Refused(f"the block of {first.layer.layer} and another one are made at one place, and differ")
        source, node = places[0].source, places[0].node
        name = self._class(source, node)
        self.made[name] += len(group)
        modules = self.scene.modules
        members = {id(modules[element]) for around in group for element in _elements(modules, around)}
        others = [self._others(place, members) for place in places]
        if others[0]:
            name = self._chosen(places[0], first.layer, name, others[0])
        elif any(others):
            raise Refused(f"one place makes the activation behind {first.layer.layer} and others")
        self.scene.change(source, *_joined(source, places, name))

    def _others(self, place: Place, members: Collection[int]) -> list[nn.Module]:
        """The modules without children that a place makes, and whose id is none of `members`."""
        made = (self.scene.modules[name] for name in self.scene.made_at(place.spot))
        return [module for module in made if id(module) not in members and not any(module.children())]

    def _chosen(self, place: Place, layer: Layer, name: str, others: Sequence[nn.Module]) -> str:
        """The expression of the class of an element, at a place that makes blocks with and without a shortcut, `others`
        being of the latter: it has one where the sizes of the layer's input and output are equal.

        Raises:
            Refused: that does not tell them apart.
        """
        source = place.source
        made = constructor(self.scene, layer)
        sizes: tuple[str | None, str | None] = (None, None)
        if made is not None and made.source is source and made.spot == place.spot:
            module = self.scene.modules[layer.layer]
            sizes = input_size_of(source, made.node, module), size_of(source, made.node, module)
        if None in sizes or any(map(keeps_size, others)):
            raise Refused(f"one place makes {layer.layer} and layers that get no shortcut")
        sequential = class_name(self.scene, source, made.node if made is not None else None, "Sequential")
        either = f"{name} if {sizes[0]} == {sizes[1]} else {sequential}"
        if comprehension(source, place.node) is not None:
            return f"({either})"
        variable = free_name(source, place.node, "block")
        self.scene.change(source, source.above(source.statement(place.node), f"{variable} = {either}"))
        return variable

    def _places(self, around: Around) -> list[Place]:
        """Where the elements of a block are put into their Sequential."""
        scene = self.scene
        names = _elements(scene.modules, around)
        container = type(around.layer.holder).__name__
        stacks = [scene.origins.get(name, ()) for name in names]
        neighbours = [*stacks[1:], stacks[0]]  # of what a variable holds, the use beside the next element is meant
        return [
            place_of(scene, stack, container, [made.node for made in scene.made(beside)])
            for stack, beside in zip(stacks, neighbours, strict=True)
        ]

    def _class(self, source: Source, node: cst.CSTNode) -> str:
        """The name of the class of shortcuts in a file, which gets it above what holds `node`."""
        key = str(source.path)
        if key not in self._names:
            name = self._names[key] = free("Shortcut", names_in(source.module).__contains__)
            sequential = class_name(self.scene, source, None, "Sequential")
            factor = factor_text(self.scene, source, None)
            text = _CLASS.format(name=name, sequential=sequential, factor=factor)
            text = text.replace("    ", source.module.default_indent).replace("\n", source.newline)
            self.scene.change(source, _above_all(source, node, text))
        return self._names[key]


def _elements(modules: Mapping[str, nn.Module], around: Around) -> list[str]:
    """The names of the modules that a block is, elements of one Sequential.

    Raises:
        Refused: it is more than these.
    """
    layer, holder = around.layer, around.layer.holder
    keys = list(holder._modules)
    behind = keys[keys.index(layer.attribute) + 1 :]
    mine = next((at for at, key in enumerate(behind) if is_weight_layer(holder.get_submodule(key))), len(behind))
    last = None
    if around.end.op == "call_module":  # of a module in several places the graph has the first name
        end = modules[str(around.end.target)]
        last = next((at for at in range(mine - 1, -1, -1) if holder._modules[behind[at]] is end), None)
    if last is None:
        raise Refused(f"the block of {layer.layer} ends outside of the {type(holder).__name__} that holds it")
    prefix = f"{layer.parent}." if layer.parent else ""
    return [prefix + key for key in (layer.attribute, *behind[: last + 1])]


def _joined(source: Source, places: Sequence[Place], name: str) -> list[Splice]:
    """The changes that make what stands at `places` one element.

    Raises:
        Refused: they are no neighbours.
    """
    nodes = [place.node for place in places]
    apart = Refused("the layers of one block are put into their Sequential at places that are no neighbours")
    if any(place.source is not source for place in places):
        raise apart
    spans = [source.outer_span(place.element) for place in places]
    start, end = spans[0]
    rest = "".join(f", {source.text[slice(*span)]}" for span in spans[1:])
    inside = [Splice(start, start, f"{name}("), Splice(end, end, f"{rest})")]
    if all(isinstance(node, (cst.Arg, cst.Element, cst.DictElement)) for node in nodes):
        if not _are_neighbours(source, nodes):
            raise apart
        if all(place.name is None for place in places):
            return _wrapped(source, spans, name, _is_whole_tuple(source, nodes))
        return [*inside, *(_taken_out(source, before, node) for before, node in pairwise(nodes))]
    lines = [source.parent(node) for node in nodes]
    if not all(isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1 for line in lines):
        raise apart
    if not _are_neighbours(source, [line for line in lines if line is not None]):
        raise apart
    return [*inside, *(_taken_out(source, before, node) for before, node in pairwise(nodes))]


def _span(source: Source, node: cst.CSTNode) -> tuple[int, int]:
    """Where an element or a statement stands, with the parentheses around it."""
    value = getattr(node, "value", None)
    whole = isinstance(node, cst.Element) or (isinstance(node, cst.Arg) and node.keyword is None)
    return source.outer_span(value) if whole and isinstance(value, cst.BaseExpression) else source.span(node)


def _is_whole_tuple(source: Source, nodes: Sequence[cst.CSTNode]) -> bool:
    holder = source.parent(nodes[0])
    return isinstance(holder, cst.Tuple) and len(holder.elements) == len(nodes)


def _wrapped(source: Source, spans: Sequence[tuple[int, int]], name: str, alone: bool) -> list[Splice]:
    """The changes that put elements, which stand one behind the other, into a call of `name`: on one line if they fit,
    else each on the line that it has, one level deeper. `alone`: they are all elements of a tuple."""
    last = ")," if alone else ")"
    start, end = spans[0][0], spans[-1][1]
    between = [Splice(one[1], other[0], ", ") for one, other in pairwise(spans)]
    length = start - source.line_start(start) + len(name) + 2 + sum(to - at for at, to in spans) + 2 * len(between)
    has_lines = any("\n" in source.text[slice(*span)] for span in spans) or "#" in source.text[start:end]
    if length <= width_of(source.text) and not has_lines:
        return [Splice(start, start, f"{name}("), *between, Splice(end, end, last)]
    if not all(source.is_first_on_line(at) for at, _ in spans):
        return [Splice(start, start, f"{name}("), Splice(end, end, last)]
    indent, step = source.indent_at(start), source.module.default_indent
    lines = [at + 1 for at in range(start, end) if source.text[at] == "\n"]
    deeper = [Splice(at, at, step) for at in lines if source.text[at : at + 1].strip(source.newline)]
    opened, closed = f"{name}({source.newline}{indent}{step}", f",{source.newline}{indent}{last}"
    return [Splice(start, start, opened), *deeper, Splice(end, end, closed)]


def _are_neighbours(source: Source, nodes: Sequence[cst.CSTNode]) -> bool:
    """Whether some arguments, elements or statements stand one behind the other in one sequence."""
    holder = source.parent(nodes[0])
    beside: list[cst.CSTNode] = []
    for field in ("args", "elements", "body"):  # of a call, a list or dict, and a block of statements
        found = getattr(holder, field, ())
        beside += list(found) if isinstance(found, (list, tuple)) else []
    if nodes[0] not in beside:
        return False
    at = beside.index(nodes[0])
    return beside[at : at + len(nodes)] == list(nodes)


def _taken_out(source: Source, before: cst.CSTNode, node: cst.CSTNode) -> Splice:
    """What takes a statement or an element out: with its line, if it has that for itself, else with the comma.

    Raises:
        Refused: there is a comment on it.
    """
    start, end = _span(source, node)
    stop = source.text.find(source.newline, end)
    stop = len(source.text) if stop < 0 else stop + len(source.newline)
    if source.is_first_on_line(start) and source.text[end:stop].strip() in ("", ","):
        return Splice(source.line_start(start), stop, "")
    behind = _span(source, before)[1]
    if "#" in source.text[behind:end] or isinstance(node, cst.BaseSmallStatement):
        raise Refused("the layers of one block have comments between them")
    return Splice(behind, end, "")


def _above_all(source: Source, node: cst.CSTNode, text: str) -> Splice:
    """`text` above the class, function or statement at the top of the file that holds `node`."""
    top = node
    for around in source.parents(node):
        if isinstance(around, cst.Module):
            break
        top = around
    start = min([source.span(top)[0], *(source.span(one)[0] for one in every(top, cst.Decorator))])
    start = source.line_start(start)
    while start and source.text[source.line_start(start - 1) : start].startswith("#"):  # what is said of it
        start = source.line_start(start - 1)
    above = source.text[:start].replace(source.newline, "\n")
    blank = len(above) - len(above.rstrip("\n")) - 1
    return Splice(start, start, source.newline * max(2 - blank, 0) * bool(above.strip()) + text)
