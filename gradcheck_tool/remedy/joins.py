"""Residual branches: a structure goes in, the additions of a branch and the shortcut around it come out.

At `x + f(x)` second moments add up, and where f is not normalized each addition doubles what there is: 30 blocks make
it 2³⁰ (De & Smith 2020, Batch normalization biases residual blocks towards the identity function, section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn

from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.ops import Kind, operation_name

_ADDITIONS = ("add", "iadd", "__add__", "__radd__", "__iadd__")


@dataclass(frozen=True, eq=False)
class Branch:
    """One addition. `end` is the value of the branch, `shortcut` the other; `last` is the last weight-layer call of the
    branch, `norm` the normalization that the branch ends in. `level` counts the additions of unnormalized branches that
    lie behind the sum, itself included, back to the last normalization of the sum; `scaled` says what scales the branch
    down already."""

    node: fx.Node
    end: fx.Node
    shortcut: fx.Node
    last: Call
    norm: fx.Node | None
    is_normalized: bool
    scaled: str | None
    level: int
    before: Branch | None


def find_branches(structure: Structure, model: nn.Module) -> tuple[Branch, ...]:
    """The residual branches, in the order of their additions. Each branch is walked once, so that the time is linear in
    the graph where branches do not lie in one another."""
    finder = _Finder(structure, model)
    found: dict[fx.Node, Branch] = {}
    for node in structure.graph.nodes:
        if node in structure.operations and operation_name(node) in _ADDITIONS:
            branch = finder.branch_at(node, found)
            if branch is not None:
                found[node] = branch
    return tuple(found.values())


class _Finder:
    def __init__(self, structure: Structure, model: nn.Module) -> None:
        self.structure = structure
        self.model = model
        self.calls = {call.node: call for call in structure.calls}
        self.positions = {node: index for index, node in enumerate(structure.graph.nodes)}

    def branch_at(self, node: fx.Node, found: dict[fx.Node, Branch]) -> Branch | None:
        values = [source.node for source in self.structure.flow.sources[node] if source.node.op != "get_attr"]
        operands = list(node.all_input_nodes)
        if len(values) != 2 or len(operands) != 2:
            return None
        for (shortcut, end), (_, operand) in zip((values, values[::-1]), (operands, operands[::-1]), strict=True):
            inside, layers = self._between(self._way_back(shortcut), end)
            calls = [part for part in inside if part in self.calls]
            if len(calls) <= layers:
                continue  # it is not computed from where the shortcut begins, or the ways are alike
            before, reset = self._before(shortcut, found)
            normalized = any(self._is_norm(part) for part in inside)
            level = (before.level if before is not None and not reset else 0) + (not normalized)
            last = self.calls[max(calls, key=self.positions.__getitem__)]
            norm, scaled = self._tail(end)
            return Branch(node, operand, shortcut, last, norm, normalized, scaled, level, before)
        return None

    def _way_back(self, node: fx.Node) -> dict[fx.Node, int]:
        """Where a shortcut may begin, from its end back through passing ops and norms, and one projection at most; with
        the number of weight layers that are on it then."""
        layers = 0
        found = {node: 0}
        while True:
            sources = self._data_sources(node)
            kind = self.structure.operations[node].kind if node in self.structure.operations else None
            is_layer = node in self.calls
            passes = is_layer or self._is_norm(node) or kind in (Kind.PASSING, Kind.MIXING)
            if len(sources) != 1 or not passes or (is_layer and layers):
                return found
            layers += is_layer
            node = sources[0]
            found[node] = layers

    def _data_sources(self, node: fx.Node) -> list[fx.Node]:
        return [source.node for source in self.structure.flow.sources.get(node, ()) if source.node.op != "get_attr"]

    def _between(self, roots: dict[fx.Node, int], end: fx.Node) -> tuple[list[fx.Node], int]:
        """The nodes from which `end` is computed, behind one of the `roots`, and the number of that; no nodes where it
        is computed from none."""
        first = min(self.positions[root] for root in roots)
        seen, pending = {end}, [end]
        reached: list[int] = []
        while pending:
            for source in self._data_sources(pending.pop()):
                if source in roots:
                    reached.append(roots[source])
                elif source not in seen and self.positions[source] > first:
                    seen.add(source)
                    pending.append(source)
        return (list(seen), max(reached)) if reached and end not in roots else ([], 0)

    def _before(self, node: fx.Node, found: dict[fx.Node, Branch]) -> tuple[Branch | None, bool]:
        """The addition that a shortcut comes from, and whether a norm lies between."""
        reset = False
        while node not in found:
            sources = self._data_sources(node)
            if len(sources) != 1 or node.op == "placeholder":
                return None, reset
            reset = reset or self._is_norm(node)
            node = sources[0]
        return found[node], reset

    def _is_norm(self, node: fx.Node) -> bool:
        operation = self.structure.operations.get(node)
        return node in self.structure.forms.norms or (operation is not None and operation.kind is Kind.NORMALIZATION)

    def _tail(self, node: fx.Node) -> tuple[fx.Node | None, str | None]:
        """The norm that a branch ends in, and what scales it down at its end."""
        while node not in self.calls and not self._is_norm(node):
            operation = self.structure.operations.get(node)
            sources = self._data_sources(node)
            if operation is not None and operation.kind is Kind.PRODUCT:
                factors = [part for part in node.args[:2] if not isinstance(part, fx.Node)]
                if any(isinstance(part, (int, float)) for part in factors):
                    return None, "a constant factor scales its branch already"
                if any(isinstance(part, fx.Node) and part.op == "get_attr" for part in node.args[:2]):
                    return None, "a parameter scales its branch already"
                whole = [part for part in sources if part.meta.get("shape") == node.meta.get("shape")]
                if len(whole) != 1:
                    return None, None
                node = whole[0]  # the other is one number a sample or a channel: stochastic depth, a gate
                continue
            if operation is None or operation.kind is not Kind.PASSING or len(sources) != 1:
                return None, None
            node = sources[0]
        if node in self.calls:
            weight = dict(self.model.named_parameters(remove_duplicate=False)).get(self.calls[node].parameter)
            if weight is not None and not weight.is_meta and not weight.any():
                return None, "its branch ends in a layer that starts at zero already"
            return None, None
        return node, None


def last_of_streams(branches: tuple[Branch, ...]) -> Iterator[tuple[Branch, int]]:
    """Each branch with the largest level of the additions that lie on one path with it since the last norm."""
    largest = {branch: branch.level for branch in branches}
    for branch in reversed(branches):
        if branch.before is not None and branch.level >= branch.before.level:
            largest[branch.before] = max(largest[branch.before], largest[branch])
    for branch in branches:
        yield branch, largest[branch]
