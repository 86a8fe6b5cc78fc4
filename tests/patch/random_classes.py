"""Classes, functions and whole files of random sources."""

from __future__ import annotations

from random_layout import Lines
from random_style import Author, Page

DOCS = ("A small network.", "Layers, then the activation.", "Baseline from last week.", "Plain, no tricks.")


def doc(a: Author) -> Lines:
    return [f'"""{a.pick(*DOCS)}"""'] if a.docs and a.maybe(0.7) else []


def klass(
    a: Author,
    name: str,
    init: Lines,
    forward: Lines,
    *,
    base: str = "",
    params: tuple[str, ...] = (),
    arguments: str = "",
    arg: str = "x",
) -> Lines:
    """A class with `init` (and what its scope has besides) and `forward`; either may be empty."""
    lines = [f"class {name}({base or a.module()}):", *a.indented(doc(a))]
    if len(lines) > 1 and a.maybe(0.6):
        lines.append("")
    if init or a.scope.extras:
        first = "super().__init__(" if a.super != "old" else f"super({name}, self).__init__("
        hinted = [f"{param}: int" if a.hints else param for param in params]
        lines += a.indented(a.signature("def __init__(", ["self", *hinted, *a.spelled_params()], "None"))
        extras = a.scope.extras
        body = [*extras, *init] if a.maybe(0.4) else [*init, *extras]
        made = [line for line in body if not line.startswith(("#", "\t"))]
        late = a.super == "late" and len(made) > 1 and "=" in body[0] and "self" not in body[0]
        late = late and body[0].endswith(("]", "0", "}")) and body[0].count("[") == body[0].count("]")
        body = [body[0], f"{first}{arguments})", *body[1:]] if late else [f"{first}{arguments})", *body]
        lines += a.indented(a.noted(body), 2)
    if forward:
        lines += [""] if len(lines) > 1 and lines[-1] else []
        lines += a.indented(method(a, "forward", forward, arg))
    return lines


def method(a: Author, name: str, body: Lines, arg: str = "x") -> Lines:
    if a.hints:
        a.page.needs.add("Tensor")
    opening = f"def {name}(self, {arg}: Tensor) -> Tensor:" if a.hints else f"def {name}(self, {arg}):"
    return [opening, *a.indented([*doc(a), *a.noted(a.broken(body))])]


IMPORTS = {
    "nn.": ("import torch.nn as nn", "from torch import nn"),
    "torch.nn.": ("import torch.nn",),
    "torch": ("import torch",),
    "F.": ("import torch.nn.functional as F", "from torch.nn import functional as F"),
    "Tensor": ("from torch import Tensor",),
    "OrderedDict": ("from collections import OrderedDict",),
    "SimpleNamespace": ("from types import SimpleNamespace",),
    "partial": ("from functools import partial",),
    "math": ("import math",),
}
FIRST = ("OrderedDict", "partial", "math", "SimpleNamespace")


def imports(a: Author, page: Page) -> list[Lines]:
    needs = set(page.needs)
    if any(need.endswith("functional.") for need in needs):
        needs.add("nn." if a.functional == "nn.functional." else "torch")
    standard = [a.pick(*IMPORTS[need]) for need in FIRST if need in needs]
    known = [need for need in IMPORTS if need in needs and need not in FIRST]
    lines = [a.pick(*IMPORTS[need]) for need in known]
    if a.maybe(0.7):
        lines.sort(key=lambda line: (line.startswith("from"), line))
    spelled = {"import torch.nn as nn", "from torch import nn"} & set(lines)
    if a.merged and spelled and "from torch import Tensor" in lines:
        lines = [line for line in lines if not line.endswith(("Tensor", " nn"))]
        lines.append(f"from torch import {a.pick('Tensor, nn', 'nn, Tensor')}")
    if page.bare:
        names = sorted(page.bare)
        if a.maybe(0.3):
            a.dice.shuffle(names)
        long = len(", ".join(names)) > 60 or a.maybe(0.1)
        plain = [f"from torch.nn import {', '.join(names)}"]
        lines += a.group("from torch.nn import (", [[name] for name in names], ")") if long else plain
    siblings = [f"from {file} import {', '.join(dict.fromkeys(names))}" for file, names in page.siblings.items()]
    return [group for group in (standard, lines, siblings) if group]


def text(a: Author, page: Page) -> str:
    """The file as it is written: imports, then the blocks, as many blank lines between as this author leaves."""
    groups = imports(a, page)
    top = [*page.title, *([""] if page.title and a.maybe(0.5) else [])]
    for i, group in enumerate(groups):
        top += [*([""] if i else []), *group]
    gap = a.pick(2, 2, 2, 1, 3) if a.on("odd layout") else 2
    blocks = [top, *page.blocks]
    lines: Lines = []
    for block, following in zip(blocks, [*blocks[1:], []], strict=True):
        short = not any(line.lstrip().startswith(("class ", "def ", "@")) for line in (block + following) if line)
        lines += [*block, *([""] * (1 if short else gap) if following else [])]
    found = []
    for line in lines:
        body = line.lstrip("\t")
        found.append(a.indent * (len(line) - len(body)) + body)
    return "\n".join(found) + "\n"
