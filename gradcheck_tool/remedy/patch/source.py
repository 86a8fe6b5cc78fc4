"""A source file, parsed by LibCST, in which places are found by line and column, and which is changed by splices: what
no splice names stays as it is, to the byte.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, ParentNodeProvider, PositionProvider

from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.results import Location
from gradcheck_tool.target.overlay import read

Node = TypeVar("Node", bound=cst.CSTNode)
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, order=True)
class Splice:
    """`text` in the place of what stands from `start` to `end` (offsets in characters). Those at one place are put in
    the order in which they were made."""

    start: int
    end: int
    text: str


class Source:
    """One file of the user's.

    Raises:
        Refused: it cannot be read or parsed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = read(path)
            self.encoding = tokenize.detect_encoding(io.BytesIO(self.content).readline)[0]
            self.text = self.content.decode(self.encoding)
            self._wrapper = MetadataWrapper(cst.parse_module(self.text), unsafe_skip_copy=True)
        except (OSError, SyntaxError, UnicodeDecodeError, cst.ParserSyntaxError) as error:
            raise Refused(f"{path.name} cannot be read: {error}") from error
        self.module = self._wrapper.module
        self.newline = "\r\n" if "\r\n" in self.text else "\n"
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(self.text))]

    # -- places -------------------------------------------------------------------------------------------------------

    @cached_property
    def _positions(self) -> dict[cst.CSTNode, CodeRange]:
        return dict(self._wrapper.resolve(PositionProvider))

    @cached_property
    def _parents(self) -> dict[cst.CSTNode, cst.CSTNode]:
        return dict(self._wrapper.resolve(ParentNodeProvider))

    @cached_property
    def _by_end(self) -> dict[int, list[cst.BaseExpression]]:
        """The calls and operations that end at each offset, the innermost first."""
        found: dict[int, list[cst.BaseExpression]] = {}
        for node in self._positions:
            if isinstance(node, (cst.Call, cst.BinaryOperation, cst.ListComp, cst.GeneratorExp, cst.DictComp)):
                found.setdefault(self.span(node)[1], []).append(node)
        for nodes in found.values():
            nodes.sort(key=lambda node: -self.span(node)[0])
        return found

    @cached_property
    def top_level(self) -> list[cst.BaseSmallStatement]:
        """The small statements of the module that stand in no other, those of `from __future__` left out."""
        lines = [line for line in self.module.body if isinstance(line, cst.SimpleStatementLine)]
        return [one for line in lines for one in line.body if not _is_future(one)]

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The node that holds `node`."""
        return self._parents.get(node)

    def parents(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes around `node`, from the inside outwards."""
        around = self._parents.get(node)
        while around is not None:
            yield around
            around = self._parents.get(around)

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Where a node stands, without parentheses around it."""
        place = self._positions[node]
        return self._offset(place.start.line, place.start.column), self._offset(place.end.line, place.end.column)

    def outer_span(self, node: cst.BaseExpression) -> tuple[int, int]:
        """Where an expression stands, with the parentheses around it."""
        start, end = self.span(node)
        for _ in node.lpar:
            start = self.text.rindex("(", 0, start)
            end = self.text.index(")", end) + 1
        return start, end

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def of(self, node: cst.CSTNode) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def at(self, location: Location) -> cst.BaseExpression | None:
        """The call or operation that is at a place in running code."""
        start = self._offset(location.line, location.column - 1)
        end = self._offset(location.end_line, location.end_column - 1)
        # A call of a method that stands on a line of its own begins, for Python, at the method's name.
        return next((node for node in self._by_end.get(end, ()) if self.span(node)[0] <= start), None)

    # -- statements ---------------------------------------------------------------------------------------------------

    def statement(self, node: cst.CSTNode) -> cst.BaseSmallStatement:
        """The small statement in which an expression stands.

        Raises:
            Refused: it stands in none, as in the header of a loop.
        """
        for around in (node, *self.parents(node)):
            if isinstance(around, cst.BaseSmallStatement):
                return around
        raise Refused(f"the layer is made in the header of a statement ({self.path.name})")

    def below(self, statement: cst.BaseSmallStatement, text: str) -> Splice:
        """`text` as a statement of its own below `statement`; behind it, where that shares its line with a header."""
        line = self.parent(statement)
        if isinstance(line, cst.SimpleStatementSuite):
            at = self.span(statement)[1]
            return Splice(at, at, f"; {text}")
        assert line is not None
        indent = self.indent_at(self.span(line)[0])
        return self.line_after(self.span(line)[1], indent + text)

    def above(self, statement: cst.BaseSmallStatement, text: str) -> Splice:
        """`text` as a statement of its own above `statement`; in front of it, where others stand on its line."""
        line = self.parent(statement)
        assert line is not None
        at = self.span(line)[0]
        if isinstance(line, cst.SimpleStatementSuite) or self.span(statement)[0] != at:
            at = self.span(statement)[0]
            return Splice(at, at, f"{text}; ")
        indent = self.indent_at(at)
        return Splice(at, at, f"{text}{self.newline}{indent}")

    def line_after(self, offset: int, line: str) -> Splice:
        """A whole line behind that in which `offset` is."""
        match = _LINE_END.search(self.text, offset)
        if match is None:
            return Splice(len(self.text), len(self.text), self.newline + line)
        return Splice(match.end(), match.end(), line + self.newline)

    def indent_at(self, offset: int) -> str:
        """The white space with which the line of `offset` begins."""
        start = self.line_start(offset)
        return self.text[start : start + len(self.text[start:]) - len(self.text[start:].lstrip(" \t\f"))]

    def line_start(self, offset: int) -> int:
        """Where the line of `offset` begins."""
        return max((start for start in self._starts if start <= offset), default=0)

    def is_first_on_line(self, offset: int) -> bool:
        """Whether nothing but white space stands before `offset` in its line."""
        return not self.text[self.line_start(offset) : offset].strip()

    # -- the result ---------------------------------------------------------------------------------------------------

    def changed(self, splices: Sequence[Splice]) -> bytes:
        """The file with all splices made.

        Raises:
            Refused: two of them change the same text.
        """
        return self.spliced(splices, 0, len(self.text)).encode(self.encoding)

    def spliced(self, splices: Sequence[Splice], start: int, end: int) -> str:
        """The text from `start` to `end` with the splices made, all of which are in there.

        Raises:
            Refused: two of them change the same text.
        """
        pieces, at = [], start
        for splice in sorted(splices, key=lambda one: (one.start, one.end)):
            if splice.start < at:
                raise Refused(f"two changes of one place in {self.path.name}")
            pieces += [self.text[at : splice.start], splice.text]
            at = splice.end
        return "".join((*pieces, self.text[at:end]))

    def without_comments(self, node: cst.CSTNode) -> list[Splice]:
        """What takes the comments out of the text of a node, and the lines that hold nothing else."""
        splices = []
        for comment in every(node, cst.Comment):
            start, end = self.span(comment)
            first = self.line_start(start)
            if not self.text[first:start].strip():
                start, end = first, end + len(self.newline)
            else:
                start = len(self.text[:start].rstrip(" \t"))
            splices.append(Splice(start, end, ""))
        return splices


def nodes_in(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """All nodes in `node`, itself included, in the order of the source."""
    yield node
    for child in node.children:
        yield from nodes_in(child)


def every(node: cst.CSTNode, kind: type[Node]) -> Iterator[Node]:
    """The nodes of one kind in `node`, itself included, in the order of the source."""
    return (found for found in nodes_in(node) if isinstance(found, kind))


def attributes(node: cst.CSTNode, name: str) -> list[cst.Attribute]:
    """The attributes of one name in `node`: `self.body` and `other.body` for `body`."""
    return [found for found in every(node, cst.Attribute) if found.attr.value == name]


def gives(assign: cst.Assign, name: str) -> bool:
    """Whether an assignment gives a value to the variable `name`."""
    return any(isinstance(one.target, cst.Name) and one.target.value == name for one in assign.targets)


def _is_future(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.ImportFrom) and node.module is not None and dotted(node.module) == "__future__"


def dotted(node: cst.CSTNode) -> str:
    """`a.b.c` of a name or an attribute; empty for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return base and f"{base}.{node.attr.value}"
    return ""


def last_name(node: cst.CSTNode) -> str:
    """`c` of `a.b.c` and of `f().c`; empty for anything else."""
    return node.value if isinstance(node, cst.Name) else node.attr.value if isinstance(node, cst.Attribute) else ""
