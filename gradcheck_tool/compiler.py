"""Keeps torch's compiler out of a recording: it would hide what runs, and takes more than a second to load.

torch runs much of its meta device in Python, by functions that import parts of the compiler in their bodies, for sizes
that might be symbolic and for calls that might be compiled. In a recording neither is so. Until something needs the
real modules, stand-ins answer the few questions that are asked: "is this plain `bool` true?" takes no sympy.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import Any

import torch

_COMPILER = "torch._dynamo"
_SHAPES = "torch.fx.experimental.symbolic_shapes"
_ALGEBRA = "sympy"
_NUMBERS = (bool, int, float)


class _Loaded(Loader):
    """Gives a module that the import of its package has loaded already."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module as it is."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """It has run."""


class _StandIn(ModuleType):
    """Stands in `sys.modules` for a module that is not loaded. Whoever asks it for what it does not have, or imports a
    submodule of it (it is a finder of them, too), gets the module itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package
        package, _, self._short = name.rpartition(".")
        self._place: dict[str, Any] = vars(importlib.import_module(package)) if package else {}

    def __enter__(self) -> _StandIn:
        sys.modules[self.__name__] = self
        sys.meta_path.insert(0, self)
        self._place.setdefault(self._short, self)
        return self

    def __exit__(self, *exception: object) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        if self._place.get(self._short) is self:
            del self._place[self._short]
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # asked by the import system, of any module
        return getattr(self.real(), name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The real module's own submodule of that name."""
        if not name.startswith(f"{self.__name__}."):
            return None
        self.real()
        loaded = sys.modules.get(name)
        return find_spec(name) if loaded is None else spec_from_loader(name, _Loaded(loaded))

    def real(self) -> Any:
        """The module, from now on in its own place."""
        if sys.modules.get(self.__name__) is self:
            self.__exit__()
        return importlib.import_module(self.__name__)


class _Compiler(_StandIn):
    """What torch's functions that are not to be compiled find as `torch._dynamo`: there is nothing to be disabled."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(_COMPILER)
        self._stack = stack
        self._noted: list[Callable[..., Any]] = []

    def disable(self, fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """`fn` as it is, for `torch._disable_dynamo`, which hands over a function and notes the answer on it. Any other
        use goes to the compiler."""
        if fn is None or kwargs.keys() - {"wrapping"}:
            return self.real().disable(fn, *args, **kwargs)
        self._noted.append(fn)
        return fn

    def __exit__(self, *exception: object) -> None:
        super().__exit__()
        for fn in self._noted:
            fn.__dict__.pop("__dynamo_disable", None)
        self._noted.clear()

    def real(self) -> Any:
        """The compiler, with orders to run what it is given as it is written."""
        new = sys.modules.get(_COMPILER) is self
        compiler = super().real()
        if new:
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))
        return compiler


class _Shapes(_StandIn):
    """torch's reasoning on sizes, for plain numbers; the first symbolic one brings the real module, and sympy."""

    def expect_true(self, a: Any, skip: int = 0) -> Any:
        """Whether `a` holds."""
        return a if type(a) is bool else self.real().expect_true(a, skip + 1)

    def guard_or_false(self, a: Any) -> Any:
        """Whether `a` holds; no, where that depends on data."""
        return a if type(a) is bool else self.real().guard_or_false(a)

    def guard_or_true(self, a: Any) -> Any:
        """Whether `a` holds; yes, where that depends on data."""
        return a if type(a) is bool else self.real().guard_or_true(a)

    def guard_size_oblivious(self, a: Any) -> Any:
        """Whether `a` holds for sizes other than 0 and 1."""
        return a if type(a) is bool else self.real().guard_size_oblivious(a)

    def statically_known_true(self, a: Any) -> Any:
        """Whether `a` is known to hold."""
        return a if type(a) is bool else self.real().statically_known_true(a)

    def is_nested_int(self, a: Any) -> Any:
        """Whether `a` is the size of a ragged dimension."""
        return False if type(a) in _NUMBERS else self.real().is_nested_int(a)

    def has_guarding_hint(self, a: Any) -> Any:
        """Whether the value of `a` is known."""
        return True if type(a) in _NUMBERS else self.real().has_guarding_hint(a)

    def guarding_hint_or_throw(self, a: Any) -> Any:
        """The value of `a`."""
        return a if type(a) in _NUMBERS else self.real().guarding_hint_or_throw(a)

    def sym_or(self, *each: Any) -> Any:
        """Whether one of them holds."""
        return any(each) if all(type(a) is bool for a in each) else self.real().sym_or(*each)

    def sym_and(self, *each: Any) -> Any:
        """Whether all of them hold."""
        return all(each) if all(type(a) is bool for a in each) else self.real().sym_and(*each)

    def sym_eq(self, x: Any, y: Any) -> Any:
        """Whether two sizes, or all sizes of two lists, are the same."""
        if type(x) is int and type(y) is int:
            return x == y
        sized = isinstance(x, (tuple, list)) and isinstance(y, (tuple, list))
        if sized and all(type(size) is int for size in (*x, *y)):
            return tuple(x) == tuple(y)
        return self.real().sym_eq(x, y)


class _Expression:
    """Nothing is one."""


class _Algebra(_StandIn):
    """sympy, for torch's question whether a number is an expression of it."""

    @property
    def Basic(self) -> Any:
        """The class of all expressions, of which there are none while sympy is not loaded."""
        asker = sys._getframe(1).f_globals.get("__name__")
        unloaded = sys.modules.get(_ALGEBRA) is self
        return _Expression if unloaded and asker == "torch._prims_common" else self.real().Basic


@contextmanager
def uncompiled() -> Iterator[None]:
    """Runs functions and modules under torch.compile as they are written."""
    with ExitStack() as stack:
        for name, stand_in in ((_ALGEBRA, _Algebra), (_SHAPES, _Shapes)):
            if name not in sys.modules:
                stack.enter_context(stand_in(name))
        if _COMPILER in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        else:
            stack.enter_context(_Compiler(stack))
        yield
