"""How the author of a random source formats: dice, and what they say about layout, comments and hints.

Lines are kept without their indentation, one tab for each level below the first; `random_classes.text` gives them the
author's.
"""

from __future__ import annotations

import random
from typing import TypeVar

Lines = list[str]
T = TypeVar("T")

SWITCHES = ("comments", "docstrings", "hints", "odd layout", "odd indent", "between", "odd spelling", "extras")
"""What can be taken away from every source, to make it plainer."""

COMMENTS = (
    "hidden", "TODO: tune", "keep this small", "see the paper, section 3.2", "(N, C)", "é → è", "noqa", "1st try: 64",
    "same width everywhere", "größer bringt nichts", "don't touch", "was: Sigmoid()", "ok?", "nonlinearity",
)  # fmt: skip
REMARKS = ("the layers themselves", "--- layers ---", "NOTE: not tuned", "wider did not help", "body")


def is_whole(text: str) -> bool:
    """Whether every bracket that opens in `text` closes in it, and the other way round."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0


class Layout:
    """Draws, and lays out lines."""

    def __init__(self, seed: int, plain: frozenset[str] = frozenset()) -> None:
        self.dice = random.Random(seed)
        self.plain = plain
        self.indent = self.pick("    ", "    ", "    ", "  ", "\t") if self.on("odd indent") else "    "
        self.quote = self.pick('"', "'")
        self.hints = self.on("hints") and self.maybe(0.4)
        self.docs = self.on("docstrings") and self.maybe(0.4)
        self.commas = self.maybe(0.6)
        self.chatty = self.pick(0.0, 0.04, 0.12, 0.3) if self.on("comments") else 0.0
        self.layout = self.pick("exploded", "exploded", "aligned", "paired") if self.on("odd layout") else "exploded"

    # -- dice --

    def on(self, switch: str) -> bool:
        return switch not in self.plain

    def maybe(self, share: float) -> bool:
        return self.dice.random() < share

    def pick(self, *options: T) -> T:
        return self.dice.choice(options)

    # -- layout --

    def comment(self, line: str) -> str:
        return f"{line}  # {self.pick(*COMMENTS)}" if self.maybe(self.chatty) else line

    def noted(self, lines: Lines) -> Lines:
        """Statements, some with comments and blank lines."""
        found: Lines = []
        for line in lines:
            if self.maybe(self.chatty / 4):
                indent = line[: len(line) - len(line.lstrip("\t"))]
                found.append(f"{indent}# {self.pick(*REMARKS)}")
            plain = not line.lstrip().startswith(('"', "'", "#")) and "#" not in line and line.strip()
            found.append(self.comment(line) if plain else line)
        return found

    def group(self, opening: str, elements: list[Lines], closing: str, tight: bool = False) -> Lines:
        """A call, list or dict of several elements, on one line or on many."""
        if not elements:
            return [opening + closing]
        single = all(len(element) == 1 for element in elements)
        flat = opening + ", ".join(element[0] for element in elements) + closing
        if single and len(flat) <= 88 and (tight or len(elements) < 3 or self.maybe(0.4)):
            return [flat]
        if single and self.layout == "aligned" and len(elements) > 1:
            lines = [element[0] + "," for element in elements[:-1]]
            pad = " " * len(opening)
            return [self.comment((pad if i else opening) + line) for i, line in enumerate(lines)] + [
                pad + elements[-1][0] + closing
            ]
        if single and self.layout == "paired":
            pairs = [elements[i : i + 2] for i in range(0, len(elements), 2)]
            elements = [[", ".join(element[0] for element in pair)] for pair in pairs]
        lines = [opening]
        for i, element in enumerate(elements):
            if self.maybe(self.chatty / 6):
                lines.append(f"\t# {self.pick(*REMARKS)}")
            comma = "," if i < len(elements) - 1 or self.commas else ""
            lines += [f"\t{line}" for line in element[:-1]]
            lines.append(self.comment(f"\t{element[-1]}{comma}"))
        return [*lines, closing]

    def assign(self, target: str, text: str) -> Lines:
        """`target = text`, where `text` is a call without calls in it; some on many lines."""
        if self.on("odd layout") and self.maybe(0.07) and text.endswith(")"):
            opening, _, arguments = text.partition("(")
            return self.group(f"{target} = {opening}(", [[part] for part in arguments[:-1].split(", ")], ")")
        if self.hints and self.maybe(0.04):
            return [f"{target}: {text.partition('(')[0]} = {text}"]
        return [f"{target} = {text}"]

    def broken(self, lines: Lines) -> Lines:
        """Statements, some calls among them on lines of their own, some two on one line."""
        found: Lines = []
        for line in lines:
            opening, _, rest = line.partition("(")
            plain = line.startswith("x = ") and "#" not in line and " and " not in line
            outer = plain and line.endswith(")") and len(rest) > 1 and is_whole(rest[:-1])
            if outer and self.on("odd layout") and self.maybe(0.03):
                comma = "," if self.commas else ""
                found += [self.comment(f"{opening}("), f"\t{rest[:-1]}{comma}", ")"]
            elif plain and found and found[-1].startswith("x = ") and "#" not in found[-1] and self.maybe(0.01):
                found[-1] += f"; {line}"
            else:
                found.append(line)
        return found

    def indented(self, lines: Lines, level: int = 1) -> Lines:
        return ["\t" * level + line if line else "" for line in lines]

    def signature(self, opening: str, params: list[str], returns: str) -> Lines:
        end = f"){f' -> {returns}' if self.hints and returns else ''}:"
        return self.group(opening, [[param] for param in params], end, tight=True)
