"""The cleverer ways to make layers, as random source: a comprehension of two loops, a table of channels, a list that
goes on with an activation, blocks with a switch, one encoder for two inputs. And forward's names for its values."""

from __future__ import annotations

import re
from itertools import pairwise

from random_classes import klass, method
from random_layout import Lines
from random_style import Author, Part, Width


def _sizes(widths: list[Width]) -> str:
    return ", ".join(width.text for width in widths)


def two_loops(a: Author, rank: int, widths: list[Width]) -> Part:
    """`*[m for a, b in zip(sizes, sizes[1:]) for m in (nn.Linear(a, b), nn.ReLU())]`"""
    a.features.add("clever")
    a.features.add("Sequential unpacked")
    holder, sizes = a.name("net", "body", "trunk"), a.pick("sizes", "dims")
    one, two = a.pick(("a", "b"), ("i", "o"))
    made = f"({a.layer(rank, one, two)}, {a.act_module()})"
    walk, each = f"for {one}, {two} in zip({sizes}, {sizes}[1:])", f"for m in {made}"
    opening = f"self.{holder} = {a.nn('Sequential')}("
    init = [f"{sizes} = [{_sizes(widths)}]"]
    if a.maybe(0.5):
        init += [f"{opening}*[m {walk} {each}])"]
    else:
        init += [f"{opening}*[", "\tm", f"\t{walk}", f"\t{each}", "])"]
    return Part(init, [f"x = self.{holder}(x)"])


def table(a: Author, rank: int, widths: list[Width]) -> Part:
    """A function that goes through a table of widths, as those of VGG nets; "M" pools, "D" drops."""
    a.features.add("clever")
    a.features.add("helper function")
    a.features.add("Sequential unpacked")
    name, table_name = a.top("make_layers", "build_layers", "stack_layers"), a.top("LAYOUT", "TABLE", "PLAN_A")
    stop = "M" if rank else "D"
    cells = [str(width.value) for width in widths[1:]]
    if not rank or a.space >= 4:
        cells.insert(2, a.string(stop))
        a.space //= 2
    with a.inside():
        other = f"{a.nn(f'MaxPool{rank}d')}(2)" if rank else f"{a.nn('Dropout')}(0.1)"
        layer, act = a.layer(rank, "channels", "v"), a.act_module()
        adds = a.pick(
            [f"layers += [{layer}, {act}]"], [f"layers.append({layer})", f"layers.append({act})"],
            [f"layer = {layer}", f"layers += [layer, {act}]"],
        )  # fmt: skip
        branch = [
            f"if v == {a.string(stop)}:",
            f"\tlayers.append({other})",
            "else:",
            *a.indented([*adds, "channels = v"]),
        ]
        body = ["layers = []", "for v in table:", *a.indented(branch), f"return {a.nn('Sequential')}(*layers)"]
        lines = [f"def {name}(table, channels):", *a.indented(a.noted(body))]
    a.page.blocks += [[f"{table_name} = [{', '.join(cells)}]"], lines]
    holder = a.name("features", "layers_", "trunk")
    return Part([f"self.{holder} = {name}({table_name}, {widths[0].text})"], [f"x = self.{holder}(x)"])


def act_first(a: Author, rank: int, widths: list[Width]) -> Part:
    """A first layer, and then again and again an activation and a layer."""
    a.features.add("clever")
    a.features.add("Sequential unpacked")
    holder, layers, sizes = a.name("net", "mlp", "body"), a.pick("layers", "modules"), a.pick("sizes", "dims")
    made = [a.act_module(), a.layer(rank, f"{sizes}[i]", f"{sizes}[i + 1]")]
    adds = a.pick([f"{layers} += [{', '.join(made)}]"], [f"{layers}.append({text})" for text in made])
    init = [
        f"{sizes} = [{_sizes(widths)}]",
        f"{layers} = [{a.layer(rank, f'{sizes}[0]', f'{sizes}[1]')}]",
        f"for i in range(1, len({sizes}) - 1):",
        *a.indented(adds),
        f"self.{holder} = {a.nn('Sequential')}(*{layers}, {a.act_module()})",
    ]
    return Part(init, [f"x = self.{holder}(x)"])


def switched(a: Author, rank: int, widths: list[Width], head: bool) -> Part:
    """A block class with a switch for its activation, or a loop with one: the head is made as the other layers are."""
    a.features.add("clever")
    if a.maybe(0.5) and head:
        a.features.add("head excluded")
        a.features.add("ModuleList comprehension")
        holder, sizes = a.name("layers", "fcs"), a.pick("sizes", "dims")
        layer = a.layer(rank, f"{sizes}[i]", f"{sizes}[i + 1]")
        made = f"{a.nn('ModuleList')}([{layer} for i in range(len({sizes}) - 1)])"
        last = f"i == len(self.{holder}) - 1"
        act = a.acted("layer(x)")
        walk = [f"for i, layer in enumerate(self.{holder}):", f"\tx = layer(x) if {last} else {act}"]
        return Part([f"{sizes} = [{_sizes(widths)}]", f"self.{holder} = {made}"], walk)
    a.features.add("block class")
    block = a.top("Layer", "LinearAct", "Affine")
    with a.inside():
        stages = a.stage(lambda x: f"self.inner({x})", rank, pools=False)
        acts = ["x = self.inner(x)", "if self.active:", f"\tx = {a.acted('x')}", "return x"]
        if len(stages) == 1:
            acts = a.pick(acts, ["if not self.active:", "\treturn self.inner(x)", f"return {stages[0][4:]}"])
        init = [f"self.inner = {a.layer(rank, 'n_in', 'n_out')}", "self.active = active"]
        a.param("active", "True", "bool")
        lines = klass(a, block, init, acts, params=("n_in", "n_out"))
    a.page.blocks.append(lines)
    made_blocks = [f"{block}({one.text}, {two.text}" for one, two in pairwise(widths)]
    ends = [")"] * (len(made_blocks) - head) + [", active=False)"] * head
    holder = a.name("layers", "blocks", "stack")
    elements = [[text + end] for text, end in zip(made_blocks, ends, strict=True)]
    init = a.group(f"self.{holder} = {a.nn('Sequential')}(", elements, ")")
    return Part(init, [f"x = self.{holder}(x)"])


# -- names of values ---------------------------------------------------------------------------------------------------

_X = re.compile(r"(?<![\w.])x\b(?!=)")


def renamed(a: Author, forward: Lines) -> tuple[Lines, str]:
    """The statements of forward with other names for their values: `out` from the first on, or `h1`, `h2`, …; and the
    name of its argument."""
    roll = a.dice.random()
    flat = all(line.startswith("x = ") for line in forward[:-1]) and forward[-1].startswith("return ")
    if not flat or len(forward) < 2 or roll > 0.3:
        return forward, "x"
    arg = a.pick("x", "x", "inp", "inputs", "batch")
    if roll > 0.12:
        name = a.pick("out", "h", "z", "hidden_")
        first = f"{name} = {_X.sub(arg, forward[0][4:])}"
        return [first, *(_X.sub(name, line) for line in forward[1:])], arg
    name, found = a.pick("h", "x", "z"), Lines()
    for i, line in enumerate(forward):
        value = _X.sub(f"{name}{i}" if i else arg, line.partition(" = ")[2] if line.startswith("x = ") else line)
        found.append(f"{name}{i + 1} = {value}" if line.startswith("x = ") else value)
    return found, arg


def siamese(a: Author, part: Part, last: str) -> Lines:
    """A model that calls its layers, at one place each, on two inputs."""
    once = a.name("encode", "forward_once")
    a.methods.append(method(a, once, [*part.forward, "return x"]))
    body = [f"return {last.replace('(x)', f'(self.{once}(a) - self.{once}(b))')}"]
    return klass(a, "Siamese", part.init, body, base=a.base_class or "", arg="a, b")
