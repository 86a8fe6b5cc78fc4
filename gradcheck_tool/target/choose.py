"""A loaded module and a name in it → the model. Without a name, the one thing of the module that can only be meant.

An error lists the candidates, each as it would be typed.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gradcheck_tool.border import users_code
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.sources import display_path
from gradcheck_tool.target.overlay import read
from gradcheck_tool.target.spec import TargetSpec

FACTORIES = ("build_model", "create_model", "get_model", "make_model")


def build(module: ModuleType, spec: TargetSpec, timeout: float = 0) -> tuple[nn.Module, str]:
    """The model that `spec` means in `module`, and its name there as the report will say it.

    Raises:
        GradtoolError: nothing or several things fit, the name is missing, arguments are missing or wrong, the
            constructor or the factory raises, or what comes out is no `nn.Module`.
    """
    source = _Source(module)
    if spec.name is None:
        name = _only_candidate(module, spec, source)
        return _model(
            getattr(module, name), name, TargetSpec(spec.text, spec.file, spec.module, name), source, timeout
        ), name
    found = _look_up(module, spec, timeout)
    return _model(found, spec.name, spec, source, timeout), spec.expression or spec.name


class _Source:
    """The top-level definitions of a module, read from its text: their lines, and which names each one uses."""

    def __init__(self, module: ModuleType) -> None:
        self.name = module.__name__
        self.file = getattr(module, "__file__", None)
        self.shown = display_path(self.file) if self.file else None
        self.lines: dict[str, int] = {}
        self._uses: dict[str, set[str]] = {}
        if self.file and self.file.endswith(".py"):
            for node in ast.parse(read(Path(self.file))).body:
                self._add(node)

    def _add(self, node: ast.stmt) -> None:
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        for name in _defined(node):
            self.lines[name] = node.lineno
            self._uses.setdefault(name, set()).update(used - {name})

    def line(self, name: str) -> int | None:
        return self.lines.get(name.partition(".")[0])

    def used_by(self, name: str) -> set[str]:
        """Every name that the definition of `name` uses, also by way of functions and tables of the module."""
        reached: set[str] = set()
        waiting = list(self._uses.get(name, ()))
        while waiting:
            used = waiting.pop()
            if used not in reached:
                reached.add(used)
                waiting.extend(self._uses.get(used, ()))
        return reached - {name}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _only_candidate(module: ModuleType, spec: TargetSpec, source: _Source) -> str:
    if isinstance(vars(module).get("model"), nn.Module):
        return "model"
    factories = [name for name in FACTORIES if inspect.isroutine(vars(module).get(name))]
    callable_now = [name for name in factories if not _missing(vars(module)[name])]
    if callable_now:
        return _the_one(callable_now, spec)
    classes = {name: value for name, value in vars(module).items() if _is_own_class(name, value, module)}
    used = {name for user in classes for name in source.used_by(user)}
    unused = [name for name in classes if name not in used]
    buildable = [name for name in unused if not _missing(classes[name])]
    if buildable:
        return _the_one(buildable, spec)
    raise _none_fits(module, spec, source, [*factories, *(unused or classes)])


def _is_own_class(name: str, value: Any, module: ModuleType) -> bool:
    own = isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    return own and value.__name__ == name  # an alias is not a second class


def _the_one(names: list[str], spec: TargetSpec) -> str:
    if len(names) == 1:
        return names[0]
    listed = ", ".join(f"{spec.place}:{name}" for name in names)
    raise GradtoolError(
        f"several models fit: {', '.join(names)}", file=spec.place, hint=f"name the one that you mean: {listed}"
    )


def _none_fits(module: ModuleType, spec: TargetSpec, source: _Source, named: list[str]) -> GradtoolError:
    """The error where nothing can be built without a word more: the nearest thing to it, or that there is nothing."""
    instances = [name for name, value in vars(module).items() if isinstance(value, nn.Module)]
    if len(named) == 1 and not instances:
        return _needs(vars(module)[named[0]], named[0], spec, source)
    candidates = instances + [_call(name, vars(module)[name]) for name in named]
    if candidates:
        return GradtoolError(
            f"no model that can be taken without a name; candidates: {', '.join(candidates)}",
            file=spec.place,
            hint=f"name the one that you mean: {spec.place}:{candidates[0]}",
        )
    return GradtoolError(
        "no model found: no nn.Module called model, no function called build_model, create_model, get_model or "
        "make_model, and no class derived from nn.Module",
        file=spec.place,
        hint=f"define one of these, or name the function that returns the model: {spec.place}:NAME",
    )


def _look_up(module: ModuleType, spec: TargetSpec, timeout: float) -> Any:
    found: Any = module
    walked = spec.place
    for part in (spec.name or "").split("."):
        missing = object()
        with users_code(f"reading {part} of {walked}", timeout=timeout):
            value = getattr(found, part, missing)
        if value is missing:
            raise GradtoolError(
                f"there is no {part} in {walked}",
                file=None if walked == spec.place else spec.place,
                hint=_near(part, found, spec),
            )
        walked = part if found is module else f"{walked}.{part}"
        found = value
    return found


def _near(missing: str, owner: Any, spec: TargetSpec) -> str:
    names = [name for name in dir(owner) if not name.startswith("_")]
    near = difflib.get_close_matches(missing, names, n=3)
    if not near and isinstance(owner, ModuleType):
        near = [name for name, value in vars(owner).items() if _is_own_class(name, value, owner)]
        near += [name for name, value in vars(owner).items() if isinstance(value, nn.Module)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"name an nn.Module, a class or a function that {spec.place} defines"


def _model(found: Any, name: str, spec: TargetSpec, source: _Source, timeout: float) -> nn.Module:
    place: dict[str, Any] = {"file": source.shown or spec.place, "line": source.line(name)}
    if isinstance(found, nn.Module):
        if spec.called:
            raise GradtoolError(
                f"{name} is a model already, not something that builds one", hint=f"type {spec.place}:{name}", **place
            )
        return found
    if not callable(found):
        raise GradtoolError(
            f"{name} is of type {type(found).__name__}, not a model",
            hint="name an nn.Module, or what builds one",
            **place,
        )
    if _missing(found) and not spec.called:
        raise _needs(found, name, spec, source)
    _check_arguments(found, name, spec, place)
    call = spec.expression if spec.called and spec.expression else f"{name}()"
    with users_code(f"calling {call}", timeout=timeout, **place):
        made = found(*spec.args, **spec.kwargs)
    if not isinstance(made, nn.Module):
        raise GradtoolError(
            f"{call} returned {'None' if made is None else 'a ' + type(made).__name__}, not an nn.Module",
            hint="let it return the model",
            **place,
        )
    return made


def _check_arguments(found: Callable[..., Any], name: str, spec: TargetSpec, place: Mapping[str, Any]) -> None:
    signature = _signature(found)
    if signature is None:
        return
    try:
        signature.bind(*spec.args, **spec.kwargs)
    except TypeError as error:
        accepts = str(signature.replace(return_annotation=inspect.Signature.empty))
        raise GradtoolError(
            f"{spec.expression} does not fit {name}{accepts}: {error}",
            hint=f"type {spec.place}:{_call(name, found)}",
            **place,
        ) from error


def _signature(found: Callable[..., Any]) -> inspect.Signature | None:
    """The signature; None for what has none to read (some builtins), which is then just called."""
    try:
        return inspect.signature(found)
    except (ValueError, TypeError):
        return None


def _required(found: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    signature = _signature(found)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return (
        ()
        if signature is None
        else [p for p in signature.parameters.values() if p.default is p.empty and p.kind not in variable]
    )


def _missing(found: Callable[..., Any]) -> list[str]:
    return [parameter.name for parameter in _required(found)]


def _call(name: str, found: Callable[..., Any]) -> str:
    """`Net(hidden=…)`: how a call that gives every required argument is typed."""
    parts = ["…" if p.kind is p.POSITIONAL_ONLY else f"{p.name}=…" for p in _required(found)]
    return f"{name}({', '.join(parts)})" if parts else name


def _needs(found: Callable[..., Any], name: str, spec: TargetSpec, source: _Source) -> GradtoolError:
    missing = _missing(found)
    if not missing:  # a class that another one uses, and that one uses it
        return GradtoolError(
            f"no model can be taken without a name; candidate: {name}",
            file=spec.place,
            hint=f"type {spec.place}:{name}",
        )
    return GradtoolError(
        f"{name} needs {'an argument' if len(missing) == 1 else 'arguments'}: {', '.join(missing)}",
        file=source.shown or spec.place,
        line=source.line(name),
        hint=f"give {'it' if len(missing) == 1 else 'them'} in the TARGET: {spec.place}:{_call(name, found)}",
    )
