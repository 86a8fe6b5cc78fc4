"""Layers that are attributes of a class with its own forward, as random source: one by one, by `setattr`, called twice,
in blocks, in a base class, in conditions."""

from __future__ import annotations

from itertools import pairwise

from random_classes import klass, method
from random_layout import Lines
from random_style import Author, Part, Width, Wrap

FAMILIES = {0: ("fc", "fc", "linear", "dense", "layer", "l", "lin"), 1: ("conv", "conv", "c"), 2: ("conv", "conv", "c")}
ARBITRARY = ("inp", "mid", "deep", "lower", "upper", "proj", "expand", "squeeze_", "mix", "final")


def names(a: Author, rank: int, count: int) -> list[str]:
    if a.maybe(0.12):
        return [a.name(name) for name in ARBITRARY[:count]]
    family = a.pick(*FAMILIES[rank])
    first = a.pick(1, 1, 1, 0)
    if rank and a.maybe(0.15):
        return [a.name(f"{family}{i // 2 + 1}_{i % 2 + 1}") for i in range(count)]
    return [a.name(f"{family}{i + first}", f"{family}_{i + first}", f"{family}_h{i + first}") for i in range(count)]


def plain(a: Author, rank: int, widths: list[Width], norms: tuple[int, ...] = ()) -> Part:
    """One attribute a layer, one statement or more a call."""
    init, forward = Lines(), Lines()
    a.features.add("attributes")
    found = names(a, rank, len(widths) - 1)
    nested = a.maybe(0.18) and not norms
    normed = a.pick("norm{}", "bn{}", "{}_bn")
    for i, name in enumerate(found):
        init += a.assign(f"self.{name}", a.layer(rank, widths[i].text, widths[i + 1].text))
        norm = None
        if i in norms:
            end = "".join(c for c in name if c.isdigit())
            spelled = a.name(normed.format(name if "_" in normed else end or name), f"{name}_n")
            init.append(f"self.{spelled} = {a.norm(rank, widths[i + 1].text)}")
            norm = lambda x, spelled=spelled: f"self.{spelled}({x})"  # noqa: E731
        call = lambda x, name=name: f"self.{name}({x})"  # noqa: E731
        if nested and i % 2 == 0 and i + 1 < len(found):
            continue
        if nested and i % 2:
            a.features.add("larger expression")
            inside = a.acted(f"self.{found[i - 1]}(x)")
            call = lambda x, name=name, inside=inside: f"self.{name}({inside if x == 'x' else x})"  # noqa: E731
            forward.append(f"x = {a.acted(call('x'))}")
        elif norm is None and a.maybe(0.12):
            forward += larger(a, call)
        elif norm is None and a.maybe(0.06):
            init, forward = conditional(a, init, forward, call, same=widths[i].value == widths[i + 1].value)
        else:
            forward += a.stage(call, rank, norm=norm)
    return Part(init, forward)


def larger(a: Author, call: Wrap) -> Lines:
    """A call in the middle of a larger expression."""
    a.features.add("larger expression")
    x = call("x")
    forms = [
        [f"x = 0.5 * {a.acted(x)}"],
        [f"x = {a.acted(f'{x} / 2')}"],
        [f"y = {x}", f"x = {a.acted('y')} * 2.0"],
        [f"x = {a.acted(x)}.clone()"],
        [f"x = -{a.acted('-' + x)}"] if a.spelling not in ("method",) else [f"x = 1.5 * {a.acted(x)}"],
        [f"x = {a.f('dropout')}({a.acted(x)}, 0.1, self.training)"],
        [f"x = {a.acted(a.torch('clamp') + f'({x}, -8, 8)')}"],
        [f"x, size = {a.acted(x)}, x.size(0)", "assert x.size(0) == size"],
    ]
    return a.pick(*forms)


def conditional(a: Author, init: Lines, forward: Lines, call: Wrap, same: bool) -> tuple[Lines, Lines]:
    """A call that hangs on a condition."""
    a.features.add("conditional")
    steps = a.stage(call, 0)
    if not same:
        return init, [*forward, a.pick("if x.size(0) > 0:", "if x.dim() > 1:"), *a.indented(steps)]
    flag = a.name("deep", "extra")
    init = [*init, f"self.{flag} = True"]
    if a.maybe(0.3):
        return init, [*forward, f"x = {a.acted(call('x'))} if self.{flag} else x"]
    return init, [*forward, f"if self.{flag}:", *a.indented(steps)]


def by_setattr(a: Author, rank: int, widths: list[Width]) -> Part:
    """Attributes whose names are made in a loop. The sizes are all the same from the second layer on."""
    a.features.add("setattr loop")
    family, count = a.pick(*FAMILIES[rank]), len(widths) - 1
    init, forward = Lines(), Lines()
    entry = a.name("inp", "stem", "first")
    init.append(f"self.{entry} = {a.layer(rank, widths[0].text, widths[1].text)}")
    forward += a.stage(lambda x: f"self.{entry}({x})", rank)
    n = a.name("depth", "n_layers")
    while any(f"{family}{i}" in a.scope.names for i in range(count)):
        family += "_"
    a.scope.names |= {f"{family}{i}" for i in range(count)}
    init.append(f"self.{n} = {count - 1}")
    layer = a.layer(rank, widths[1].text, widths[1].text)
    spelled = f"f{a.string(family + '{i}')}" if a.maybe(0.7) else f"{a.string(family + '%d')} % i"
    adds = a.pick("setattr(self, {}, {})", "setattr(self, {}, {})", "self.add_module({}, {})")
    init += [f"for i in range(self.{n}):", "\t" + adds.format(spelled, layer)]
    forward += [
        f"for i in range(self.{n}):",
        *a.indented(a.stage(lambda x: f"getattr(self, {spelled})({x})", rank, pools=False)),
    ]
    return Part(init, forward)


def twice(a: Author, rank: int, widths: list[Width]) -> Part:
    """Among the layers, one that is called at two places."""
    if len(widths) < 3:
        return plain(a, rank, widths)
    a.features.add("module called twice")
    init, forward = Lines(), Lines()
    first, shared, *rest = names(a, rank, len(widths) - 1)
    sizes = [widths[0], widths[1], widths[1], *widths[3:]]
    for i, name in enumerate((first, shared, *rest)):
        init += a.assign(f"self.{name}", a.layer(rank, sizes[i].text, sizes[i + 1].text))
    forward += a.stage(lambda x: f"self.{first}({x})", rank)
    if a.maybe(0.5):
        forward += a.stage(lambda x: f"self.{shared}({x})", rank, pools=False)
        forward += a.stage(lambda x: f"self.{shared}({x})", rank, pools=False)
    else:
        forward += a.stage(lambda x: f"self.{shared}({x})", rank, pools=False, to="a")
        forward += a.stage(lambda x: f"self.{shared}({x})", rank, pools=False, var="-x", to="b")
        forward += ["x = a + b"]
    for name in rest:
        forward += a.stage(lambda x, name=name: f"self.{name}({x})", rank)
    return Part(init, forward)


# -- classes of their own ----------------------------------------------------------------------------------------------


def block_class(a: Author, rank: int) -> str:
    """Defines a block, a layer with its activation, perhaps in another file. Gives its name."""
    block = a.top("Block", "DenseBlock" if not rank else "ConvBlock", "Unit", "LayerWithAct")
    page = a.helpers or a.page
    if a.helpers:
        a.features.add("two files")
        a.model.siblings.setdefault("blocks", []).append(block)
    kind = a.pick("forward", "forward", "body", "sequential")
    with a.inside(page):
        own = a.pick("fc", "linear", "lin") if not rank else a.pick("conv", "conv", "c")
        made = a.layer(rank, *(sizes := a.pick(("n_in", "n_out"), ("in_dim", "out_dim"), ("i", "o"))))
        if kind == "sequential":
            a.features.add("inheritance")
            opened = [[made], [a.act_module()]]
            inner = a.group("super().__init__(", opened, ")")
            head = a.signature("def __init__(", ["self", *(f"{s}: int" if a.hints else s for s in sizes)], "None")
            lines = [f"class {block}({a.nn('Sequential')}):", *a.indented(head), *a.indented(inner, 2)]
        elif kind == "body":
            lines = klass(a, block, [f"self.body = {a.nn('Sequential')}({made}, {a.act_module()})"],
                          ["return self.body(x)"], params=sizes)  # fmt: skip
        else:
            body = a.stage(lambda x: f"self.{own}({x})", rank, pools=False)
            if len(body) == 1:
                body = [f"return {body[0][4:]}"]
            else:
                body.append("return x")
            a.scope.names.add(own)
            lines = klass(a, block, [f"self.{own} = {made}"], body, params=sizes)
        page.blocks.append(lines)
    return block


def blocks(a: Author, rank: int, widths: list[Width]) -> Part:
    """A block class, used many times: as attributes, in a Sequential or in a ModuleList."""
    a.features.add("block class")
    block = block_class(a, rank)
    made = [f"{block}({one.text}, {two.text})" for one, two in pairwise(widths)]
    forms = ("attributes", "sequential", "sequential", "list")
    same = len({width.text for width in widths[1:]}) == 1 and len(made) > 1
    form = a.pick("repeated", *forms) if same else a.pick(*forms)
    if form == "attributes":
        found = [a.name(f"block{i}", f"block_{i}") for i in range(1, len(made) + 1)]
        forward = [f"x = self.{name}(x)" for name in found]
        if a.maybe(0.2):
            a.features.add("larger expression")
            nest = "x"
            for name in found:
                nest = f"self.{name}({nest})"
            forward = [f"x = {nest}"]
        return Part([f"self.{name} = {text}" for name, text in zip(found, made, strict=True)], forward)
    if form == "list":
        holder = a.name("blocks", "stages")
        a.features.add("ModuleList literal")
        init = a.group(f"self.{holder} = {a.nn('ModuleList')}([", [[text] for text in made], "])")
        return Part(init, [f"for block in self.{holder}:", "\tx = block(x)"])
    holder = a.name("blocks", "features", "body")
    if form == "repeated":
        repeated = f"*[{block}({widths[1].text}, {widths[1].text}) for _ in range({len(made) - 1})]"
        made = [made[0], repeated]
        a.features.add("Sequential unpacked")
    else:
        a.features.add("Sequential positional")
    init = a.group(f"self.{holder} = {a.nn('Sequential')}(", [[text] for text in made], ")")
    return Part(init, [f"x = self.{holder}(x)"])


def inherited(a: Author, rank: int, widths: list[Width]) -> Part:
    """The layers of a base class, which the model calls."""
    a.features.add("inheritance")
    base = a.pick("Base", "Trunk", "FeatureExtractor")
    page = a.page
    sizes = [Width(str(width.value), width.value) for width in widths]
    known = set(a.scope.names)
    with a.inside() as scope:
        scope.names |= known
        part = plain(a, rank, sizes)
        lines = klass(a, base, part.init, [])
        call = a.name(a.pick("features", "encode", "embed"), "hidden_features")
        lines += ["", *a.indented(method(a, call, [*part.forward, "return x"]))]
        taken = set(scope.names)
    page.blocks.append(lines)
    a.scope.names |= taken
    a.base_class = base
    return Part([], [f"x = self.{call}(x)"])
