"""Changed source files as a value: `Proposal`, the bytes before and after, and the unified diff between them."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from gradcheck_tool.sources import display_path


@dataclass(frozen=True)
class Proposal:
    """Changed source files, by absolute path: the bytes before and after. A file that is new has no bytes before."""

    before: Mapping[Path, bytes]
    after: Mapping[Path, bytes]


class Refused(Exception):
    """No patch is made, or the one that was made is not shown. `str(error)` is the reason, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split()))


def diff(proposal: Proposal) -> str:
    """One unified diff over all files, named as a person would name them from here, so that `patch -p0` and
    `git apply -p0` take it.

    Line ends and a byte order mark are kept. A file that is not in UTF-8 is shown as the text that it is: to apply
    that, the diff has to be stored in the file's own encoding.
    """
    return "".join(_file_diff(path, proposal.before.get(path), text) for path, text in proposal.after.items())


def _file_diff(path: Path, before: bytes | None, after: bytes) -> str:
    if before == after:
        return ""
    encoding = _encoding(after if before is None else before)
    old, new = _lines(before or b"", encoding), _lines(after, encoding)
    name = _header_name(display_path(str(path)))
    from_name = "/dev/null" if before is None else name
    return "".join(_whole_line(line) for line in unified_diff(old, new, from_name, name))


def _encoding(source: bytes) -> str:
    """How a source says that it is encoded (PEP 263). A byte order mark stays a character of the text."""
    try:
        found = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
    except SyntaxError:  # an encoding that Python does not know
        return "utf-8"
    return "utf-8" if found == "utf-8-sig" else found


def _lines(source: bytes, encoding: str) -> list[str]:
    """The lines with their ends. A line ends at a line feed and nowhere else, as `patch` has it."""
    lines = source.decode(encoding, "surrogateescape").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + lines[-1:] * bool(lines[-1])


def _whole_line(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _header_name(name: str) -> str:
    """A tab says where a name with spaces in it ends, as GNU diff and git write it."""
    return f"{name}\t" if " " in name else name
