"""Who writes a random source: one author with one way of spelling, formatting and naming things, drawn by dice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from random_layout import Layout, Lines

Wrap = Callable[[str], str]

# module, function of F, function of torch, method, further arguments
ACTIVATIONS: dict[str, tuple[str, str | None, str | None, str | None, str]] = {
    "relu": ("ReLU", "relu", "relu", "relu", ""),
    "tanh": ("Tanh", None, "tanh", "tanh", ""),
    "sigmoid": ("Sigmoid", None, "sigmoid", "sigmoid", ""),
    "gelu": ("GELU", "gelu", None, None, ""),
    "silu": ("SiLU", "silu", None, None, ""),
    "elu": ("ELU", "elu", None, None, ""),
    "leaky_relu": ("LeakyReLU", "leaky_relu", None, None, "0.1"),
}


@dataclass(frozen=True)
class Width:
    """A size: how it is spelled in the source, and what it is."""

    text: str
    value: int


@dataclass
class Part:
    """A run of layers in a class: what makes them, and what calls them on `x`."""

    init: Lines
    forward: Lines


@dataclass
class Scope:
    """What is known inside of one class or function: the names that are taken, and its arguments."""

    names: set[str] = field(default_factory=set)
    extras: Lines = field(default_factory=list)
    params: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Page:
    """One file: what it imports, and its blocks of lines."""

    needs: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    siblings: dict[str, list[str]] = field(default_factory=dict)
    blocks: list[Lines] = field(default_factory=list)
    title: Lines = field(default_factory=list)


class Author(Layout):
    """Draws, spells and formats; collects what a source is made of, and the features that it has."""

    def __init__(self, seed: int, plain: frozenset[str] = frozenset()) -> None:
        super().__init__(seed, plain)
        self.features: set[str] = set()
        self.model = Page()
        self.helpers: Page | None = None
        self.page = self.model
        self.scope = Scope()
        self.space = 0
        self.prefix = self.pick("nn.", "nn.", "nn.", "torch.nn.", "")
        self.functional = self.pick("F.", "F.", "F.", self.prefix + "functional." if self.prefix else "F.")
        self.merged = self.maybe(0.6)
        self.super = self.pick("new", "new", "old", "late")
        self.act = self.pick("relu", "relu", "relu", *ACTIVATIONS)
        self.spelling = self._spelling()
        self.stepwise = self.pick(0.0, 0.3, 1.0)
        self.dropout = self.on("between") and self.maybe(0.35)
        self.pools = self.on("between") and self.maybe(0.5)
        self.keywords = self.maybe(0.1)
        self.policy = self.pick("numbers", "numbers", "args", "args", "cfg", "constants")
        self.base = self.pick(8, 12, 16)
        self.base_class: str | None = None
        self.methods: list[Lines] = []
        self.tops: set[str] = set()
        self._cfg: str | None = None

    # -- names --

    def nn(self, name: str) -> str:
        """A class of torch.nn, as this author spells it."""
        if not self.prefix:
            self.page.bare.add(name)
        else:
            self.page.needs.add(self.prefix)
        return self.prefix + name

    def module(self) -> str:
        """The base class of models."""
        if self.prefix:
            return self.nn("Module")
        self.page.needs.add("nn.")
        return "nn.Module"

    def f(self, name: str) -> str:
        self.page.needs.add(self.functional)
        return self.functional + name

    def torch(self, name: str) -> str:
        self.page.needs.add("torch")
        return f"torch.{name}"

    def name(self, *options: str) -> str:
        """The first of `options` that is free in this class."""
        found = next((n for n in options if n not in self.scope.names), f"{options[0]}_{len(self.scope.names)}")
        self.scope.names.add(found)
        return found

    def top(self, *options: str) -> str:
        """A name that is free at the top level of the files."""
        free = [name for name in options if name not in self.tops] or [f"{options[0]}{len(self.tops)}"]
        found = self.pick(*free)
        self.tops.add(found)
        return found

    def string(self, text: str) -> str:
        return self.quote + text + self.quote

    def param(self, name: str, default: str, hint: str = "int") -> str:
        self.scope.params[name] = hint, default
        return name

    @contextmanager
    def inside(self, page: Page | None = None) -> Iterator[Scope]:
        """Another class or function, perhaps of another file."""
        before = self.scope, self.page
        self.scope, self.page = Scope(), page or self.page
        try:
            yield self.scope
        finally:
            self.scope, self.page = before

    # -- sizes --

    def hidden(self, times: float = 1) -> Width:
        value = int(self.base * times)
        if self.policy == "numbers":
            return Width(str(value), value)
        end = {1: "", 2: " * 2", 0.5: " // 2"}[times]
        return Width(self._size("hidden", self.base) + end, value)

    def given(self, name: str, value: int) -> Width:
        """A size from outside: of the inputs or the outputs."""
        if self.policy == "numbers" or self.maybe(0.4):
            return Width(str(value), value)
        return Width(self._size(name, value), value)

    def _size(self, name: str, value: int) -> str:
        if self.policy == "args":
            return self.param(name, str(value))
        if self.policy == "constants":
            line, blocks = f"{name.upper()} = {value}", self.page.blocks
            if not blocks or not blocks[0][0].split()[0].isupper():
                blocks.insert(0, [])
            if line not in blocks[0]:
                blocks[0].append(line)
            return name.upper()
        return self._config(name, value)

    def _config(self, name: str, value: int) -> str:
        if self._cfg is None:
            self._cfg = self.pick("class", "argument", "namespace", "dict")
            opening = {"namespace": "cfg = SimpleNamespace()", "dict": "cfg = {}"}.get(self._cfg, "class Config:")
            if self._cfg == "namespace":
                self.page.needs.add("SimpleNamespace")
            self.page.blocks.insert(0, [opening])
        block = next(b for b in self.model.blocks if b[0].startswith(("class Config", "cfg = ")))
        line = {"namespace": f"cfg.{name} = {value}", "dict": f"cfg[{self.string(name)}] = {value}"}.get(
            self._cfg, f"\t{name} = {value}"
        )
        if line not in block:
            block.append(line)
        if self._cfg == "argument":
            self.param("cfg", "Config()", "Config")
        return {"class": f"Config.{name}", "dict": f"cfg[{self.string(name)}]"}.get(self._cfg, f"cfg.{name}")

    def widths(self, first: Width, count: int, last: Width | None = None, same: bool = False) -> list[Width]:
        """`first`, so many hidden sizes, and `last`."""
        same = same or self.maybe(0.3)
        return [
            first,
            *(self.hidden(1 if same else self.pick(1, 1, 2, 0.5)) for _ in range(count)),
            *([last] if last else []),
        ]

    # -- layers and activations --

    def layer(self, rank: int, a: str, b: str) -> str:
        if rank == 0:
            names = ("in_features=", "out_features=") if self.keywords else ("", "")
            bias = ", bias=False" if self.maybe(0.04) else ""
            return f"{self.nn('Linear')}({names[0]}{a}, {names[1]}{b}{bias})"
        kernel = self.pick("3, padding=1", "kernel_size=3, padding=1", "3, 1, 1", "5, padding=2", "1")
        return f"{self.nn(f'Conv{rank}d')}({a}, {b}, {kernel})"

    def norm(self, rank: int, b: str) -> str:
        return f"{self.nn(f'BatchNorm{max(rank, 1)}d')}({b})"

    def _spelling(self) -> str:
        _, function, plain, method, _ = ACTIVATIONS[self.act]
        ways = [("functional", function), ("torch", plain), ("method", method), ("module", "a"), ("module", "a")]
        if self.on("odd spelling") and self.maybe(0.15):
            ways = [("alias", plain), ("greek", plain), ("kept", function), ("argument", "a")]
        return self.pick(*(way for way, there in ways if there))

    def act_module(self) -> str:
        name, *_, arguments = ACTIVATIONS[self.act]
        inplace = self.act == "relu" and self.maybe(0.15)
        return f"{self.nn(name)}({'inplace=True' if inplace else arguments})"

    def _shared(self, names: tuple[str, ...], line: str) -> str:
        """An attribute of this class that holds `line`, made once."""
        found = next((e.split(" = ")[0] for e in self.scope.extras if e.split(" = ")[0][5:] in names), None)
        if found is None:
            found = f"self.{self.name(*names)}"
            self.scope.extras.append(f"{found} = {line}")
        return found

    def acted(self, inner: str) -> str:
        """The activation of an expression."""
        name, function, plain, method, arguments = ACTIVATIONS[self.act]
        if self.spelling == "functional":
            return f"{self.f(str(function))}({inner}{', ' + arguments if arguments else ''})"
        if self.spelling == "torch":
            return f"{self.torch(str(plain))}({inner})"
        if self.spelling == "method":
            return f"({inner}).{method}()" if " " in inner and not inner.endswith(")") else f"{inner}.{method}()"
        if self.spelling in ("alias", "greek"):
            alias = "act" if self.spelling == "alias" else "σ"
            line = [f"{alias} = {self.torch(str(plain))}"]
            if line not in self.page.blocks:
                self.page.blocks.insert(0, line)
            return f"{alias}({inner})"
        names = ("act", "activation", "nonlinearity")
        if self.spelling == "kept":
            return f"{self._shared(names, self.f(str(function)))}({inner})"
        if self.spelling == "argument":
            if "activation" not in self.scope.params:
                self.param("activation", self.nn(name), "type")
            return f"{self._shared(('act',), 'activation()')}({inner})"
        return f"{self._shared((self.act, 'act', 'activation'), self.act_module())}({inner})"

    def wraps(self, rank: int, pools: bool = True) -> list[Wrap]:
        """What comes behind an activation."""
        found: list[Wrap] = []
        if rank and pools and self.pools and self.space >= 4 and self.maybe(0.4):
            self.space //= 2
            if self.maybe(0.5):
                pool = self.f(f"max_pool{rank}d")
                found.append(lambda x: f"{pool}({x}, 2)")
            else:
                pool = self._shared(("pool",), f"{self.nn(f'MaxPool{rank}d')}(2)")
                found.append(lambda x: f"{pool}({x})")
        if self.dropout and self.maybe(0.4):
            if self.maybe(0.3):
                drop = self.f("dropout")
                found.append(lambda x: f"{drop}({x}, p=0.1, training=self.training)")
            else:
                shared = self._shared(("drop", "dropout"), f"{self.nn('Dropout')}(0.1)")
                found.append(lambda x: f"{shared}({x})")
        return found

    def stage(
        self, call: Wrap, rank: int, pools: bool = True, norm: Wrap | None = None, var: str = "x", to: str = ""
    ) -> Lines:
        """The statements of forward for one layer with its activation."""
        to = to or var
        wraps = self.wraps(rank, pools)
        steps = [call, *([norm] if norm else []), self.acted, *wraps]
        if self.dropout and norm is None and self.maybe(0.05):
            steps[1:1] = [lambda x: f"{self.f('dropout')}({x}, 0.1, self.training)"]
        if self.maybe(self.stepwise):
            return [f"{to} = {step(var if i == 0 else to)}" for i, step in enumerate(steps)]
        cut = self.pick(len(steps), len(steps) - len(wraps))
        text = var
        for step in steps[:cut]:
            text = step(text)
        return [f"{to} = {text}", *(f"{to} = {step(to)}" for step in steps[cut:])]

    def spelled_params(self) -> list[str]:
        equals = " = " if self.hints else "="
        return [f"{n}{f': {h}' if self.hints else ''}{equals}{d}" for n, (h, d) in self.scope.params.items()]
