"""Layers in an `nn.Sequential`, as random source: in every way in which people fill one.

`written` gives the statements that make one under a name; it stands in a class, in a function or at top level. With
`head` the last layer has no activation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from random_layout import Lines
from random_style import Author, Width

Norms = tuple[int, ...]


def elements(a: Author, rank: int, widths: list[Width], head: bool, norms: Norms = ()) -> list[tuple[str, str]]:
    """(kind, text) of each element in turn."""
    found = []
    for i, (one, two) in enumerate(pairwise(widths)):
        found.append(("layer", a.layer(rank, one.text, two.text)))
        if i in norms:
            found.append(("norm", a.norm(rank, two.text)))
        if head and i == len(widths) - 2:
            break
        found.append(("act", a.act_module()))
        if rank and a.pools and a.space >= 4 and a.maybe(0.35):
            a.space //= 2
            found.append(("pool", f"{a.nn(f'MaxPool{rank}d')}(2)"))
        if a.dropout and a.maybe(0.4):
            found.append(("drop", f"{a.nn('Dropout')}({a.pick('0.1', 'p=0.2')})"))
    return found


def positional(a: Author, target: str, rank: int, widths: list[Width], head: bool, norms: Norms) -> Lines:
    a.features.add("Sequential positional")
    found = elements(a, rank, widths, head, norms)
    return a.group(f"{target} = {a.nn('Sequential')}(", [[text] for _, text in found], ")")


def _named(a: Author, rank: int, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(name, text) with the names that people give."""
    family = a.pick("fc", "linear", "dense") if not rank else "conv"
    spelled = {"layer": family, "act": a.pick("act", a.act), "norm": "bn", "pool": "pool", "drop": "drop"}
    number, names = 0, []
    for kind, text in found:
        number += kind == "layer"
        names.append((f"{spelled[kind]}{number}", text))
    return names


def ordered_dict(a: Author, target: str, rank: int, widths: list[Width], head: bool, norms: Norms) -> Lines:
    a.features.add("Sequential OrderedDict")
    a.page.needs.add("OrderedDict")
    found = _named(a, rank, elements(a, rank, widths, head, norms))
    sequential = a.nn("Sequential")
    form = a.pick("list", "list", "dict", "assigned")
    if form == "assigned":
        parts = a.pick("parts", "modules", "od")
        lines = [f"{parts}[{a.string(name)}] = {text}" for name, text in found]
        return [f"{parts} = OrderedDict()", *lines, f"{target} = {sequential}({parts})"]
    if form == "dict":
        inner = a.group("OrderedDict({", [[f"{a.string(name)}: {text}"] for name, text in found], "})")
    else:
        inner = a.group("OrderedDict([", [[f"({a.string(name)}, {text})"] for name, text in found], "])")
    if len(inner) == 1 or a.maybe(0.6):
        opening = f"{target} = {sequential}("
        if inner[1:] and inner[1].startswith(" "):
            inner = [inner[0], *(" " * len(opening) + line for line in inner[1:])]
        return [opening + inner[0], *inner[1:-1], inner[-1] + ")"] if len(inner) > 1 else [opening + inner[0] + ")"]
    return a.group(f"{target} = {sequential}(", [inner], ")")


def unpacked(a: Author, target: str, rank: int, widths: list[Width], head: bool, norms: Norms) -> Lines:
    """A list that is filled and then unpacked."""
    a.features.add("Sequential unpacked")
    form = a.pick("append", "+=", "extend", "loop", "loop", "literal")
    if form == "loop":
        return _loop(a, target, rank, widths, head)
    found = elements(a, rank, widths, head, norms)
    layers = a.pick("layers", "layers", "modules", "net")
    hint = ": list[nn.Module]" if a.hints and a.prefix == "nn." else ""
    lines = [f"{layers}{hint} = []"]
    if form == "literal":
        lines = a.group(f"{layers} = [", [[text] for _, text in found], "]")
    elif form == "append":
        lines += [f"{layers}.append({text})" for _, text in found]
    else:
        chunks: list[list[Lines]] = []
        for kind, text in found:
            if kind == "layer":
                chunks.append([])
            chunks[-1].append([text])
        for chunk in chunks:
            lines += (
                a.group(f"{layers}.extend([", chunk, "])")
                if form == "extend"
                else a.group(f"{layers} += [", chunk, "]")
            )
    return [*lines, f"{target} = {a.nn('Sequential')}(*{layers})"]


def _loop(a: Author, target: str, rank: int, widths: list[Width], head: bool) -> Lines:
    """The same in a loop over the sizes."""
    layers, sizes = a.pick("layers", "modules"), a.pick("sizes", "dims", "widths")
    hidden = widths[:-1] if head else widths
    lines = [f"{sizes} = [{', '.join(width.text for width in hidden)}]"]
    walk = a.pick("zip", "index", "carry")
    one, two = {"zip": ("a", "b"), "index": (f"{sizes}[i]", f"{sizes}[i + 1]"), "carry": ("prev", "size")}[walk]
    loop = {
        "zip": f"for a, b in zip({sizes}[:-1], {sizes}[1:]):",
        "index": f"for i in range(len({sizes}) - 1):",
        "carry": f"for size in {sizes}[1:]:",
    }[walk]
    if walk == "carry":
        lines.append(f"prev = {sizes}[0]")
    lines.append(f"{layers} = []")
    made = [a.layer(rank, one, two), a.act_module()]
    if a.dropout:
        made.append(f"{a.nn('Dropout')}(0.1)")
    form = a.pick("append", "append", "+=", "extend")
    if form == "append":
        body = [f"{layers}.append({text})" for text in made]
    else:
        opening, closing = (f"{layers} += [", "]") if form == "+=" else (f"{layers}.extend([", "])")
        body = a.group(opening, [[text] for text in made], closing, tight=True)
    if walk == "carry":
        body.append("prev = size")
    lines += [loop, *a.indented(body)]
    if head:
        lines.append(f"{layers}.append({a.layer(rank, hidden[-1].text, widths[-1].text)})")
    return [*lines, f"{target} = {a.nn('Sequential')}(*{layers})"]


def added(a: Author, target: str, rank: int, widths: list[Width], head: bool, norms: Norms) -> Lines:
    """A Sequential that is made empty and then filled."""
    a.features.add("Sequential add_module")
    local = target if target.startswith("self.") and a.maybe(0.5) else a.pick("net", "seq", "body")
    lines = [f"{local} = {a.nn('Sequential')}()"]
    form = a.pick("add_module", "add_module", "append", "loop")
    found = elements(a, rank, widths, head, norms) if form != "loop" else []
    if form == "append":
        lines += [f"{local}.append({text})" for _, text in found]
    elif form == "add_module":
        lines += [f"{local}.add_module({a.string(name)}, {text})" for name, text in _named(a, rank, found)]
    else:
        sizes, family = a.pick("sizes", "dims"), "fc" if not rank else "conv"
        hidden = widths[:-1] if head else widths
        f = f"f{a.quote}"
        lines.append(f"{sizes} = [{', '.join(width.text for width in hidden)}]")
        lines.append(f"for i in range(len({sizes}) - 1):")
        lines.append(
            f"\t{local}.add_module({f}{family}{{i}}{a.quote}, {a.layer(rank, f'{sizes}[i]', f'{sizes}[i + 1]')})"
        )
        lines.append(f"\t{local}.add_module({f}act{{i}}{a.quote}, {a.act_module()})")
        if head:
            last = a.layer(rank, hidden[-1].text, widths[-1].text)
            lines.append(f"{local}.add_module({a.string('head')}, {last})")
    return lines if local == target else [*lines, f"{target} = {local}"]


def nested(a: Author, target: str, rank: int, widths: list[Width], head: bool, norms: Norms) -> Lines:
    """Sequentials in a Sequential."""
    a.features.add("nested Sequential")
    parts: list[Lines] = []
    last = len(widths) - 2
    for i in range(len(widths) - 1):
        bare = head and i == last
        inner = [[text] for _, text in elements(a, rank, widths[i : i + 2], bare, (0,) if i in norms else ())]
        parts.append(inner[0] if bare else a.group(f"{a.nn('Sequential')}(", inner, ")"))
    if not rank and not norms and len({width.text for width in widths[1:-1]}) == 1 and a.maybe(0.6):
        w = widths[1].text
        body = f"{a.nn('Sequential')}({a.layer(0, w, w)}, {a.act_module()})"
        count = len(widths) - 2 - head
        parts = [parts[0], [f"*[{body} for _ in range({count})]"], *([parts[-1]] if head else [])]
        if not head and widths[-1].text != w:
            parts.append(a.group(f"{a.nn('Sequential')}(", [[a.layer(0, w, widths[-1].text)], [a.act_module()]], ")"))
            parts[1] = [parts[1][0].replace(f"range({count})", f"range({count - 1})")]
    return a.group(f"{target} = {a.nn('Sequential')}(", parts, ")")


FORMS: dict[str, Callable[[Author, str, int, list[Width], bool, Norms], Lines]] = {
    "positional": positional,
    "ordered_dict": ordered_dict,
    "unpacked": unpacked,
    "added": added,
    "nested": nested,
}


def written(
    a: Author, target: str, rank: int, widths: list[Width], head: bool, form: str = "", norms: Norms = ()
) -> Lines:
    return FORMS[form or a.pick(*FORMS)](a, target, rank, widths, head, norms)
