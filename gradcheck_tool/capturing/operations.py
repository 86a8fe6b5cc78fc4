"""What a torch function mode sees → the node that does the same, with a target that generated code can name."""

from __future__ import annotations

import importlib
import inspect
import operator
from collections.abc import Callable
from functools import cache
from types import MethodWrapperType
from typing import Any

from torch import Tensor
from torch.utils._device import _device_constructors

_OPERATORS = {"__getitem__": operator.getitem, "__setitem__": operator.setitem, "__delitem__": operator.delitem}

_FOR_PYTHON = ("array", "bool", "int", "float", "index", "complex", "contains")
_FOR_PYTHON = ("array", "bool", "int", "float", "index", "complex", "contains")
_READS = ("item", "tolist", "numpy", "is_nonzero", "equal", "allclose")
VALUE_READS = frozenset((*_READS, *(f"__{name}__" for name in _FOR_PYTHON)))
"""Names of the methods and functions that hand the value of a tensor to Python."""

HOOKS = frozenset({"register_hook", "register_post_accumulate_grad_hook"})
"""Names of the methods that act on a tensor but return something else."""

constructors = cache(lambda: frozenset(_device_constructors()))
"""torch's functions that make a tensor from nothing."""

Operation = tuple[str, Any, Any, Any]
"""(op, target, args, kwargs) of a node."""


def operation(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation | None:
    """The node that does what `func(*args, **kwargs)` does; None where generated code has no name for `func`."""
    if isinstance(func, MethodWrapperType):
        name = func.__name__
        if name in ("__get__", "__set__"):
            descriptor: Any = func.__self__
            attribute = getattr(descriptor, "__name__", None) or descriptor.fget.__name__
            if name == "__get__":
                return "call_function", getattr, (args[0], attribute), {}
            return "call_function", setattr, (args[0], attribute, args[1]), {}
    named = _named(func)
    return None if named is None else (*named, args, kwargs)


@cache
def _named(func: Callable[..., Any]) -> tuple[str, Any] | None:
    name = getattr(func, "__name__", "")
    if name in _OPERATORS:
        return "call_function", _OPERATORS[name]
    if inspect.ismethoddescriptor(func) or getattr(Tensor, name, None) is func:
        return "call_method", name
    if getattr(func, "__module__", None) == "torch._tensor":  # operators, wrapped: `x ** 2` comes as torch._tensor.pow
        if getattr(func, "__wrapped__", None) is getattr(Tensor, name, ""):
            return "call_method", name
        method = next((method for method, value in vars(Tensor).items() if value is func), None)
        return None if method is None else ("call_method", method)
    return ("call_function", func) if _can_be_found(func) else None


def _can_be_found(func: Callable[..., Any]) -> bool:
    """Whether the name that generated code gives to a function leads to it."""
    module, name = getattr(func, "__module__", None), getattr(func, "__name__", "")
    if module is None or not module.startswith("torch") or module.startswith("torch._ops"):
        return True
    try:
        return getattr(importlib.import_module(module), name, None) is func
    except ImportError:
        return False
