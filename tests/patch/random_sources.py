"""A hypothesis strategy that writes random models out as source text: files that a person could have written.

`sources()` draws a `Source`. The same draw gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import random_attributes as attributes
import random_clever as clever
import random_functional as functions
import random_lists as lists
import random_sequentials as sequentials
from hypothesis import strategies as st
from random_classes import klass, text
from random_layout import SWITCHES, Lines
from random_style import Author, Page, Part, Width

FEATURES = (
    "attributes", "Sequential positional", "Sequential OrderedDict", "Sequential unpacked", "Sequential add_module",
    "nested Sequential", "ModuleList comprehension", "ModuleList append", "ModuleList literal", "ModuleDict",
    "setattr loop", "block class", "helper function", "lambda or partial", "two files", "inheritance", "conv",
    "functional layer", "conditional", "larger expression", "module called twice", "index loop", "head excluded",
    "partly normalized", "nothing to do", "clever",
)  # fmt: skip
"""What at least 3 sources in 100 have to have, each."""
RARE = ("siamese",)
"""What is refused, and seldom: a place that calls a layer several times."""


@dataclass(frozen=True)
class Source:
    """A model file, or several of which `model.py` is the model's."""

    text: str | Mapping[str, str]
    features: frozenset[str]

    @property
    def files(self) -> Mapping[str, str]:
        return {"model.py": self.text} if isinstance(self.text, str) else self.text

    def __repr__(self) -> str:
        return "\n".join(f"# ==== {name} ====\n{body}" for name, body in self.files.items())


# -- the parts of a model ----------------------------------------------------------------------------------------------

Form = Callable[[Author, int, list[Width], bool, tuple[int, ...]], tuple[Part, bool]]
"""Writes a run of layers; says whether the head is in it, which it may be only where it is asked for."""


def _sequential(form: str) -> Form:
    def write(a: Author, rank: int, widths: list[Width], head: bool, norms: tuple[int, ...]) -> tuple[Part, bool]:
        holder = a.name("features" if rank else a.pick("net", "body", "mlp", "layers"), "classifier", "trunk")
        lines = sequentials.written(a, f"self.{holder}", rank, widths, head, form, norms)
        return Part(lines, [f"x = self.{holder}(x)"]), head

    return write


def _headless(write: Callable[[Author, int, list[Width]], Part]) -> Form:
    return lambda a, rank, widths, head, norms: (write(a, rank, widths[:-1] if head else widths), False)


def _listed(write: Callable[[Author, int, list[Width], bool], Part]) -> Form:
    return lambda a, rank, widths, head, norms: (write(a, rank, widths, head), head)


def _attributes(a: Author, rank: int, widths: list[Width], head: bool, norms: tuple[int, ...]) -> tuple[Part, bool]:
    return attributes.plain(a, rank, widths[:-1] if head else widths, norms), False


FORMS: dict[str, tuple[Form, int]] = {
    "attributes": (_attributes, 5),
    "setattr": (_headless(attributes.by_setattr), 3),
    "twice": (_headless(attributes.twice), 3),
    "blocks": (_headless(attributes.blocks), 4),
    "inherited": (_headless(attributes.inherited), 3),
    **{name: (_sequential(name), 2) for name in sequentials.FORMS},
    "list": (_listed(lists.module_list), 11),
    "interleaved": (_listed(lists.interleaved), 1),
    "dict": (_headless(lists.module_dict), 3),
    "functional": (_headless(functions.functional), 3),
    "helper": (_headless(functions.helper), 3),
    "shorthand": (_headless(functions.shorthand), 3),
    "two_loops": (_headless(clever.two_loops), 1),
    "table": (_headless(clever.table), 1),
    "act_first": (_headless(clever.act_first), 1),
    "switched": (_listed(clever.switched), 2),
}
NORMED = ("attributes", "positional", "ordered_dict", "nested")
"""The forms that know of norms."""


def run(
    a: Author, rank: int, first: Width, count: int, last: Width | None, norms: tuple[int, ...] = ()
) -> tuple[Part, Width, bool]:
    """A run of so many layers with an activation each, to `last` if it is given: the part, its width, and whether it
    ends in the head."""
    names = [name for name in FORMS if (not norms or name in NORMED) and not (name == "inherited" and a.base_class)]
    if "nothing to do" in a.features and not norms:
        names.remove("twice")  # whose calls are one more than its layers
    (name,) = a.dice.choices(names, [FORMS[name][1] for name in names])
    same = name in ("setattr", "twice") or (name == "list" and a.maybe(0.5))
    widths = a.widths(first, count, last if last and a.maybe(0.6) else None, same=same)
    head = len(widths) > count + 1
    part, headed = FORMS[name][0](a, rank, widths, head, norms)
    return part, widths[-1] if headed else widths[-2 if head else -1], headed


# -- the model ---------------------------------------------------------------------------------------------------------


def _blocks(a: Author) -> tuple[int, tuple[int, ...]]:
    """How many layers with an activation, and which of them have a norm."""
    roll = a.dice.random()
    if roll < 0.06:
        a.features.add("nothing to do")
        count = a.pick(3, 4, 5)
        return count, tuple(range(count))
    if roll < 0.11:
        a.features.add("nothing to do")
        return a.pick(1, 2, 3), ()
    if roll < 0.2:
        a.features.add("partly normalized")
        return a.pick(5, 6), (0,)
    return a.pick(4, 4, 5, 5, 6), ()


def network(a: Author) -> tuple[Lines, str]:
    """The model's class, and the expression of its inputs."""
    rank = a.pick(0, 0, 0, 1, 2)
    count, norms = _blocks(a)
    out = a.given("num_classes", a.pick(2, 3, 10))
    init, forward = Lines(), Lines()

    def add(part: Part) -> None:
        nonlocal init, forward
        gap = [""] if init and part.init and a.maybe(0.25) else []
        init, forward = [*init, *gap, *part.init], [*forward, *part.forward]

    if rank:
        a.features.add("conv")
        a.space = 8 if rank == 2 else 16
        channels = a.given("in_channels", a.pick(1, 3))
        shape = f"4, {channels.value}" + f", {a.space}" * rank
        both = not norms and count > 3 and a.maybe(0.45)
        part, width, _ = run(a, rank, channels, 2 if both else count, None, norms)
        add(part)
        if a.maybe(0.6):
            part, width = pooled(a, rank, width)
            add(part)
        else:
            add(Part([], [a.pick("x = x.flatten(1)", f"x = {a.torch('flatten')}(x, 1)", "x = x.view(x.size(0), -1)")]))
            width = Width(f"{width.text} * {a.space**rank}", width.value * a.space**rank)
        headed = False
        if both:
            part, width, headed = run(a, 0, width, count - 2, out)
            add(part)
    elif a.maybe(0.12) and not norms:
        return autoencoder(a, count)
    else:
        inputs = a.given("in_features", a.pick(4, 6, 10))
        shape = f"{a.pick(8, 16)}, {inputs.value}"
        if a.maybe(0.15):
            a.features.add("conditional")
            forward.append("if x.dim() > 2:")
            forward.append("\tx = x.flatten(1)")
        part, width, headed = run(a, 0, inputs, count, out, norms)
        add(part)
    if not headed:
        name = a.name("head", "out", "classifier", "fc_out")
        init.append(f"self.{name} = {a.nn('Linear')}({width.text}, {out.text})")
        last = f"self.{name}(x)"
    else:
        last = "x"
    inputs_text = f"{a.torch('randn')}({shape})"
    if last != "x" and a.maybe(0.015):
        a.features.add("siamese")
        lines = clever.siamese(a, Part(init, forward), last)
        lines += [line for made in a.methods for line in ["", *a.indented(made)]]
        return lines, f"{inputs_text}, {inputs_text}"
    return model_class(a, init, forward, last), inputs_text


def pooled(a: Author, rank: int, width: Width) -> tuple[Part, Width]:
    if a.maybe(0.5):
        name = a.name("gap", "avgpool")
        return Part([f"self.{name} = {a.nn(f'AdaptiveAvgPool{rank}d')}(1)"], [f"x = self.{name}(x).flatten(1)"]), width
    return Part([], [f"x = x.mean({'(2, 3)' if rank == 2 else '2'})"]), width


def autoencoder(a: Author, count: int) -> tuple[Lines, str]:
    inputs = a.given("in_features", a.pick(6, 10))
    first, width, headed = run(a, 0, inputs, max(count - 2, 1), None)
    second, width, headed = run(a, 0, width, 2, inputs)
    init, forward = [*first.init, *second.init], [*first.forward, *second.forward]
    last = "x"
    if not headed:
        name = a.name("out", "to_input")
        init.append(f"self.{name} = {a.nn('Linear')}({width.text}, {inputs.text})")
        last = f"self.{name}(x)"
    last = a.pick(last, last, f"{a.torch('sigmoid')}({last})")
    return model_class(a, init, forward, last), f"{a.torch('randn')}(8, {inputs.value})"


def model_class(a: Author, init: Lines, forward: Lines, last: str) -> Lines:
    if len(forward) > 1 and a.maybe(0.2) and forward[-1].startswith("x = ") and last != "x" and a.maybe(0.5):
        a.features.add("larger expression")
        last = last.replace("(x)", f"({forward.pop()[4:]})")
    if a.on("extras") and a.maybe(0.06) and last != "x":
        a.features.add("conditional")
        forward = [*forward, "if self.training:", "\tx = x + 0.01 * torch.randn_like(x)"]
        a.page.needs.add("torch")
    forward, arg = clever.renamed(a, [*forward, f"return {last}"])
    name = a.pick("Net", "Net", "Model", "MyNetwork", "Classifier", "DeepNet")
    lines = klass(a, name, init, forward, base=a.base_class or "", arg=arg)
    return lines + [line for made in a.methods for line in ["", *a.indented(made)]]


def bare_sequential(a: Author) -> tuple[list[Lines], str]:
    """No class at all: a Sequential at top level or made by a function."""
    count, norms = _blocks(a)
    inputs, out = a.given("in_features", a.pick(4, 6)), a.given("num_classes", 3)
    widths = a.widths(inputs, count, out)
    form = a.pick("positional", "ordered_dict", "nested") if norms else ""
    lines = sequentials.written(a, "model", 0, widths, True, form, norms)
    function = bool(a.scope.params) or a.maybe(0.4)
    a.page.needs.add("nn.")
    if function:
        head = a.signature("def build_model(", a.spelled_params(), "nn.Module")
        lines = [*head, *a.indented([*a.noted(lines), "return model"])]
    return [lines], f"{a.torch('randn')}(8, {inputs.value})"


def source(seed: int, plain: frozenset[str] = frozenset()) -> Source:
    """The source that `seed` stands for; `plain` takes things away from it."""
    a = Author(seed, plain)
    if a.maybe(0.45):
        a.helpers = Page()
    if a.docs and a.maybe(0.5):
        a.page.title = [f'"""{a.pick("Baseline model.", "Nets for the ablation.", "Models, für alle.")}"""']
    if a.maybe(0.12):
        made, shape = bare_sequential(a)
    else:
        body, shape = network(a)
        made = [body]
    a.page.blocks += made
    if a.on("extras") and a.maybe(0.15):
        a.page.blocks.append(["def count_parameters(net):", "\treturn sum(p.numel() for p in net.parameters())"])
    if made[0][0].startswith("class") and a.on("extras") and a.maybe(0.15):
        name = made[0][0][6:].partition("(")[0]
        a.page.blocks.append([f"model = {name}()"] if a.maybe(0.5) else ["def build_model():", f"\treturn {name}()"])
    inputs = [f"example_inputs = {shape}"]
    a.page.blocks.append(["def example_inputs():", f"\treturn {shape}"] if a.maybe(0.3) else inputs)
    if a.on("extras") and a.maybe(0.1):
        a.page.blocks.append([f"if __name__ == {a.string('__main__')}:", f"\tprint({a.string('nothing to do here')})"])
    files = {"model.py": text(a, a.model)}
    if a.helpers and a.helpers.blocks:
        files["blocks.py"] = text(a, a.helpers)
    if a.on("odd layout") and a.maybe(0.04):
        files = {name: body.replace("\n", "\r\n") for name, body in files.items()}
    return Source(files if len(files) > 1 else files["model.py"], frozenset(a.features))


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """Sources by the dice, which hypothesis makes plainer where it shrinks: a byte of 0 takes a habit away."""
    seed = draw(st.integers(0, 2**63))
    switches = draw(st.binary(min_size=len(SWITCHES), max_size=len(SWITCHES)))
    plain = frozenset(name for name, switch in zip(SWITCHES, switches, strict=True) if switch == 0)
    return source(seed, plain)
