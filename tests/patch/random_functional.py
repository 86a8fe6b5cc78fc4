"""Layers that are functions of the model's own parameters, and layers that a helper makes, as random source."""

from __future__ import annotations

from itertools import pairwise

from random_classes import doc
from random_layout import Lines
from random_style import Author, Part, Width


def functional(a: Author, rank: int, widths: list[Width]) -> Part:
    """`F.linear(x, self.w1, self.b1)`, `x @ self.w1 + self.b1`, `F.conv2d(x, self.k1, padding=1)`."""
    a.features.add("functional layer")
    matmul = not rank and a.maybe(0.5)
    biased = a.maybe(0.7)
    w, b = a.pick(("w", "b"), ("weight", "bias"), ("W", "b")) if not rank else ("k", "c")
    init, forward = Lines(), Lines()
    apart = a.maybe(0.3)
    biases = Lines()
    for i, (one, two) in enumerate(pairwise(widths), start=1):
        weight, bias = a.name(f"{w}{i}"), a.name(f"{b}{i}")
        size = f"{one.text}, {two.text}" if matmul else f"{two.text}, {one.text}" + ", 3" * rank
        scale = a.pick("0.1", "0.2", f"{two.text} ** -0.5" if " " not in two.text else "0.3")
        init.append(f"self.{weight} = {a.nn('Parameter')}({a.torch('randn')}({size}) * {scale})")
        if biased:
            (biases if apart else init).append(f"self.{bias} = {a.nn('Parameter')}({a.torch('zeros')}({two.text}))")
        if matmul:
            call = lambda x, w=weight, b=bias: f"{x} @ self.{w}{f' + self.{b}' if biased else ''}"  # noqa: E731
        else:
            end = ", padding=1" if rank else ""
            name = a.f("linear" if not rank else f"conv{rank}d")
            call = lambda x, w=weight, b=bias, end=end, name=name: (  # noqa: E731
                f"{name}({x}, self.{w}{f', self.{b}' if biased else ''}{end})"
            )
        forward += a.stage(call, rank)
    return Part(init + biases, forward)


def helper_names(a: Author) -> tuple[str, str]:
    return a.pick(("n_in", "n_out"), ("in_dim", "out_dim"), ("a", "b"), ("inp", "oup"))


def helper(a: Author, rank: int, widths: list[Width]) -> Part:
    """A function or method that makes layers, one or a layer and its activation."""
    gives = a.pick("layer", "layer", "sequential", "list", "method")
    name = a.top("make_layer", "make") if gives == "layer" else a.top("block", "conv_block" if rank else "fc_block")
    one, two = helper_names(a)
    page = a.helpers if a.helpers and gives != "method" else a.page
    if page is not a.page:
        a.features.add("two files")
        a.model.siblings.setdefault("blocks", []).append(name)
    a.features.add("helper function")
    with a.inside(page):
        layer, act = a.layer(rank, one, two), a.act_module()
        if gives == "layer":
            body = [f"layer = {layer}"]
            if a.maybe(0.5):
                body.append(f"{a.nn('init')}.kaiming_normal_(layer.weight)" if a.prefix else "layer.weight.data *= 1.5")
            body = [f"return {layer}"] if len(body) == 1 and a.maybe(0.7) else [*body, "return layer"]
        elif gives == "list":
            body = a.group("return [", [[layer], [act]], "]", tight=True)
        else:
            body = a.group(f"return {a.nn('Sequential')}(", [[layer], [act]], ")")
        arguments = [f"{p}: int" if a.hints else p for p in (one, two)]
        if gives == "method":
            name, static = f"_{name}", a.maybe(0.3)
            arguments[:0] = [] if static else ["self"]
        lines = [*a.signature(f"def {name}(", arguments, ""), *a.indented([*doc(a), *a.noted(body)])]
    if gives == "method":
        a.methods.append(["@staticmethod", *lines] if static else lines)
        name = f"self.{name}"
    else:
        page.blocks.append(lines)
    made = [f"{name}({i.text}, {o.text})" for i, o in pairwise(widths)]
    return _used(a, rank, made, gives)


def _used(a: Author, rank: int, made: Lines, gives: str) -> Part:
    if gives == "list":
        holder = a.name("net", "features")
        a.features.add("Sequential unpacked")
        init = a.group(f"self.{holder} = {a.nn('Sequential')}(", [[f"*{text}"] for text in made], ")")
        return Part(init, [f"x = self.{holder}(x)"])
    if gives != "layer":
        if a.maybe(0.5):
            holder = a.name("net", "trunk", "features")
            a.features.add("nested Sequential")
            init = a.group(f"self.{holder} = {a.nn('Sequential')}(", [[text] for text in made], ")")
            return Part(init, [f"x = self.{holder}(x)"])
        names = [a.name(f"block{i}", f"stage{i}") for i in range(1, len(made) + 1)]
        forward = [f"x = self.{name}(x)" for name in names]
        return Part([f"self.{name} = {text}" for name, text in zip(names, made, strict=True)], forward)
    family = "conv" if rank else a.pick("fc", "lin")
    names = [a.name(f"{family}{i}", f"{family}_{i}", f"{family}_m{i}") for i in range(1, len(made) + 1)]
    forward = [line for name in names for line in a.stage(lambda x, name=name: f"self.{name}({x})", rank)]
    return Part([f"self.{name} = {text}" for name, text in zip(names, made, strict=True)], forward)


def shorthand(a: Author, rank: int, widths: list[Width]) -> Part:
    """A lambda or a partial that makes layers: at top level or in the constructor."""
    a.features.add("lambda or partial")
    name = a.top("conv") if rank else a.top("fc", "dense", "Lin")
    one, two = helper_names(a)
    kind = a.nn(f"Conv{rank}d") if rank else a.nn("Linear")
    if a.maybe(0.5):
        a.page.needs.add("partial")
        kept = a.pick("kernel_size=3, padding=1", "kernel_size=1") if rank else "bias=True"
        line = f"{name} = partial({kind}, {kept})"
    else:
        line = f"{name} = lambda {one}, {two}: {a.layer(rank, one, two)}"
    init = Lines()
    if a.maybe(0.5):
        a.page.blocks.append([line])
    else:
        init.append(line)
    made = [f"{name}({i.text}, {o.text})" for i, o in pairwise(widths)]
    part = _used(a, rank, made, "layer")
    return Part(init + part.init, part.forward)
