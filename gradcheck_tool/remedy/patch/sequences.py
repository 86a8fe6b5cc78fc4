"""A new element among the arguments of a call, the elements of a list or the names of an import, laid out as they."""

from __future__ import annotations

import libcst as cst

from gradcheck_tool.remedy.patch.source import Source, Splice


def in_sequence(source: Source, item: cst.CSTNode, *texts: str, before: bool = False) -> list[Splice]:
    """Each of `texts` as an element of its own behind `item` (or before it), on a line of its own where `item` has
    one."""
    start, end = source.span(item)
    value = getattr(item, "value", None)
    if isinstance(item, (cst.Arg, cst.Element)) and isinstance(value, cst.BaseExpression) and value.lpar:
        end = max(end, source.outer_span(value)[1])
    comma = getattr(item, "comma", None)
    has_comma = isinstance(comma, cst.Comma)
    after = end
    if has_comma:
        after = source.text.index(",", end) + 1
        end = end if source.text[end : after - 1].strip() == "" else after - 1
    line_end = source.text.find("\n", after)
    rest = source.text[after : line_end if line_end >= 0 else len(source.text)]
    ends_line = not rest.strip() or rest.strip().startswith("#")
    alone = source.is_first_on_line(start) and ends_line
    indent = source.indent_at(start)
    following = _following(source, item)
    if not alone and ends_line and has_comma and following is not None:  # the first one, behind the bracket
        alone = True
        next_start = source.span(following)[0]
        indent = source.text[source.line_start(next_start) : next_start]
    if before:
        own_line = source.is_first_on_line(start) and alone
        gap = f",{source.newline}{indent}" if own_line else ", "
        return [Splice(start, start, "".join(text + gap for text in texts))]
    if not alone:
        gap = (
            "," if has_comma and source.text[after : after + 1] not in (" ", "\n", "\r", "\t", ")", "]", "}") else ", "
        )
        return [Splice(end, end, "".join(gap + text for text in texts))]
    lines = f",{source.newline}".join(indent + text for text in texts)
    if has_comma:
        return [source.line_after(after, f"{lines},")]
    return [Splice(end, end, ","), source.line_after(end, lines)]


def _following(source: Source, item: cst.CSTNode) -> cst.CSTNode | None:
    """The element behind `item`, where it is the first on its line."""
    around = source.parent(item)
    items = list(getattr(around, "args", None) or getattr(around, "elements", None) or ())
    at = items.index(item) + 1 if item in items else len(items)
    return items[at] if at < len(items) and source.is_first_on_line(source.span(items[at])[0]) else None
