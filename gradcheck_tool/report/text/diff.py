"""A unified diff, as it is, or coloured as git colours it."""

from __future__ import annotations

from gradcheck_tool.report.text.words import Style


def diff_text(diff: str, color: bool = False) -> str:
    """`diff`, unchanged without colour."""
    if not color:
        return diff
    style = Style(color=True)
    return "".join(_line(line, style) for line in diff.splitlines(keepends=True))


def _line(line: str, style: Style) -> str:
    text = line.rstrip("\r\n")
    end = line[len(text) :]
    if text.startswith(("+++ ", "--- ")):
        return style.paint(text, bold=True) + end
    for mark, color in (("@@", "cyan"), ("+", "green"), ("-", "red")):
        if text.startswith(mark):
            return style.paint(text, color) + end
    return line
