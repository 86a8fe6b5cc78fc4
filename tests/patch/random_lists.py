"""Layers in an `nn.ModuleList` or an `nn.ModuleDict`, as random source, and the loops of forward that walk them.

With `head` the last layer of the list has no activation: it is excluded by a slice or by its index.
"""

from __future__ import annotations

from itertools import pairwise

from random_layout import Lines
from random_style import Author, Part, Width

HOLDERS = ("layers", "layers", "body", "linears", "fcs", "hiddens")
ITEMS = ("layer", "layer", "lin", "fc", "l")


def module_list(a: Author, rank: int, widths: list[Width], head: bool) -> Part:
    holder = a.name("convs", "conv_layers") if rank else a.name(a.pick(*HOLDERS), "stack", "dense_layers")
    if not head and len(widths) > 2 and len({width.text for width in widths[1:]}) == 1 and a.maybe(0.8):
        return _behind_entry(a, holder, rank, widths)
    init = _made(a, holder, rank, widths)
    return Part(init, _walked(a, holder, rank, len(widths) - 1, head))


def _behind_entry(a: Author, holder: str, rank: int, widths: list[Width]) -> Part:
    """A layer to the hidden width, and a list of layers that keep it."""
    entry = a.name("inp", "stem", "entry")
    init = [f"self.{entry} = {a.layer(rank, widths[0].text, widths[1].text)}"]
    forward = a.stage(lambda x: f"self.{entry}({x})", rank)
    init += _made(a, holder, rank, widths[1:])
    return Part(init, [*forward, *_walked(a, holder, rank, len(widths) - 2, False)])


def _made(a: Author, holder: str, rank: int, widths: list[Width]) -> Lines:
    target, opening = f"self.{holder}", f"{a.nn('ModuleList')}("
    form = a.pick("comprehension", "comprehension", "append", "append", "literal")
    a.features.add(f"ModuleList {form}")
    if form == "literal":
        made = [[a.layer(rank, one.text, two.text)] for one, two in pairwise(widths)]
        return a.group(f"{target} = {opening}[", made, "])")
    same = len({width.text for width in widths}) == 1
    sizes = a.pick("sizes", "dims", "widths")
    lines = [] if same else [f"{sizes} = [{', '.join(width.text for width in widths)}]"]
    if same:
        one = two = widths[0].text
        loop = f"for _ in range({len(widths) - 1})"
    elif a.maybe(0.5):
        one, two = a.pick(("a", "b"), ("i", "o"), ("n_in", "n_out"))
        loop = f"for {one}, {two} in zip({sizes}[:-1], {sizes}[1:])"
    else:
        one, two = f"{sizes}[i]", f"{sizes}[i + 1]"
        loop = f"for i in range(len({sizes}) - 1)"
    made = a.layer(rank, one, two)
    if form == "comprehension":
        bracket = ("[", "]") if a.maybe(0.8) else ("", "")
        text = f"{target} = {opening}{bracket[0]}{made} {loop}{bracket[1]})"
        if len(text) > 90 or a.maybe(0.25):
            return [*lines, f"{target} = {opening}{bracket[0]}", f"\t{made}", f"\t{loop}", f"{bracket[1]})"]
        return [*lines, text]
    if a.maybe(0.3):
        local = a.pick("layers", "modules")
        return [*lines, f"{local} = []", f"{loop}:", f"\t{local}.append({made})", f"{target} = {opening}{local})"]
    return [*lines, f"{target} = {opening})", f"{loop}:", f"\t{target}.append({made})"]


def _walked(a: Author, holder: str, rank: int, count: int, head: bool) -> Lines:
    """The loop of forward."""
    held, item = f"self.{holder}", a.pick(*ITEMS)
    if head:
        a.features.add("head excluded")
        if a.maybe(0.5):
            body = a.stage(lambda x: f"{item}({x})", rank, pools=False)
            return [f"for {item} in {held}[:-1]:", *a.indented(body), f"x = {held}[-1](x)"]
        if a.maybe(0.7):
            a.features.add("index loop")
            last = a.pick(f"i < len({held}) - 1", f"i != len({held}) - 1", f"i < {count - 1}")
            act = [f"x = {a.acted('x')}", *(f"x = {wrap('x')}" for wrap in a.wraps(rank, pools=False))]
            return [f"for i, {item} in enumerate({held}):", f"\tx = {item}(x)", f"\tif {last}:", *a.indented(act, 2)]
        a.features.add("index loop")
        body = a.stage(lambda x: f"{held}[i]({x})", rank, pools=False)
        return [f"for i in range(len({held}) - 1):", *a.indented(body), f"x = {held}[-1](x)"]
    form = a.pick("plain", "plain", "enumerate", "index", "zip", "unrolled")
    if form == "plain":
        return [f"for {item} in {held}:", *a.indented(a.stage(lambda x: f"{item}({x})", rank, pools=False))]
    if form == "unrolled":
        return [line for i in range(count) for line in a.stage(lambda x, i=i: f"{held}[{i}]({x})", rank)]
    a.features.add("index loop")
    if form == "index":
        size = a.pick(f"len({held})", str(count))
        return [f"for i in range({size}):", *a.indented(a.stage(lambda x: f"{held}[i]({x})", rank, pools=False))]
    if form == "enumerate":
        body = a.stage(lambda x: f"{item}({x})", rank, pools=False)
        return [f"for i, {item} in enumerate({held}):", *a.indented([*body, *_traced(a, "i")])]
    others = a.name("drops", "dropouts", "skips_")
    made = f"{a.nn('ModuleList')}([{a.nn('Dropout')}(0.1) for _ in range({count})])"
    a.scope.extras.append(f"self.{others} = {made}")
    body = a.stage(lambda x: f"{item}({x})", rank, pools=False)
    return [f"for {item}, drop in zip({held}, self.{others}):", *a.indented(body), "\tx = drop(x)"]


def _traced(a: Author, name: str) -> Lines:
    """A use of the loop's own variable."""
    if "verbose" not in a.scope.names:
        a.scope.extras.append(f"self.{a.name('verbose')} = False")
    return ["if self.verbose:", f"\tprint({name}, tuple(x.shape))"]


def interleaved(a: Author, rank: int, widths: list[Width], head: bool) -> Part:
    """Layers and activations in one list, which forward just runs through."""
    a.features.add("ModuleList literal")
    holder, item = a.name("layers", "stack", "ops"), a.pick("layer", "op", "m")
    made: list[Lines] = []
    for i, (one, two) in enumerate(pairwise(widths)):
        made.append([a.layer(rank, one.text, two.text)])
        if not head or i < len(widths) - 2:
            made.append([a.act_module()])
    init = a.group(f"self.{holder} = {a.nn('ModuleList')}([", made, "])")
    return Part(init, [f"for {item} in self.{holder}:", f"\tx = {item}(x)"])


def module_dict(a: Author, rank: int, widths: list[Width]) -> Part:
    a.features.add("ModuleDict")
    holder, family = a.name("layers", "steps", "named"), "fc" if not rank else "conv"
    held, keys = f"self.{holder}", [f"{family}{i}" for i in range(1, len(widths))]
    opening = f"{held} = {a.nn('ModuleDict')}("
    form = a.pick("literal", "literal", "comprehension", "assigned")
    made = [a.layer(rank, one.text, two.text) for one, two in pairwise(widths)]
    if form == "literal":
        pairs = [[f"{a.string(key)}: {text}"] for key, text in zip(keys, made, strict=True)]
        init = a.group(opening + "{", pairs, "})")
    elif form == "assigned":
        init = [f"{opening})", *(f"{held}[{a.string(key)}] = {text}" for key, text in zip(keys, made, strict=True))]
    else:
        sizes = a.pick("sizes", "dims")
        key = f"f{a.string(family + '{i + 1}')}"
        text = a.layer(rank, f"{sizes}[i]", f"{sizes}[i + 1]")
        init = [
            f"{sizes} = [{', '.join(width.text for width in widths)}]",
            f"{opening}{{{key}: {text} for i in range({len(keys)})}})",
        ]
    walk = a.pick("values", "items", "keys", "direct", "listed")
    if walk == "values":
        return Part(
            init, [f"for layer in {held}.values():", *a.indented(a.stage(lambda x: f"layer({x})", rank, False))]
        )
    if walk == "items":
        body = a.stage(lambda x: f"layer({x})", rank, False)
        loop = f"for name, layer in {held}.items():"
        return Part(init, [loop, *a.indented([*body, *_traced(a, "name")])])
    if walk == "direct":
        calls = [a.stage(lambda x, key=key: f"{held}[{a.string(key)}]({x})", rank) for key in keys]
        return Part(init, [line for call in calls for line in call])
    loop = f"for key in {held}:" if walk == "keys" else f"for key in [{', '.join(map(a.string, keys))}]:"
    return Part(init, [loop, *a.indented(a.stage(lambda x: f"{held}[key]({x})", rank, False))])
