"""A file or a module → its loaded Python module. This executes the user's code.

The file's own folder is importable meanwhile, its `__name__` is its stem, and what is already known by that name
(torch, random, another model.py) stays what it is.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from gradcheck_tool.border import GUARD, users_code
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.sources import display_path
from gradcheck_tool.target import overlay

GUARD_OR_CORRECT = f"correct that line, or {GUARD}"


@contextmanager
def at_home(folder: Path, script: str) -> Iterator[None]:
    """Lets the user's code feel at home: `folder` first on the import path, a `sys.argv` of `script` alone (for a
    parser of arguments at import), and no `__pycache__` written.

    Afterwards `folder` stays at the *end* of the import path, where it shadows nothing, so that a sibling imported only
    inside `forward` is still found. Arguments and current folder are put back.
    """
    home, argv, no_bytecode, here = str(folder), sys.argv, sys.dont_write_bytecode, os.getcwd()
    sys.path.insert(0, home)
    sys.argv, sys.dont_write_bytecode = [script], True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if home in sys.path:  # the file may have rewritten the path
            sys.path.remove(home)
        if home not in sys.path:
            sys.path.append(home)
        sys.argv, sys.dont_write_bytecode = argv, no_bytecode
        os.chdir(here)


def load_file(file: Path, timeout: float = 0) -> ModuleType:
    """The module that executing `file` (absolute, ending in .py) gives. Use inside `at_home`.

    Raises:
        GradtoolError: it cannot be read or parsed, raises, exits, or is not done after `timeout` seconds.
    """
    shown = display_path(str(file))
    doing = f"importing {shown}"
    with users_code(doing, file=shown):
        try:
            source = overlay.read(file)
        except OSError as error:
            raise GradtoolError(f"cannot be read: {error.strerror}", file=shown) from error
        tree = ast.parse(source, str(file))
        code: CodeType = compile(source, str(file), "exec", dont_inherit=True)
    if not tree.body:
        raise GradtoolError("the file is empty", file=shown, hint="a TARGET is a Python file that defines a model")
    package = _package(file) if _imports_its_package(tree) else None
    if package is not None:
        with users_code(doing, timeout=timeout, file=shown, hint=GUARD_OR_CORRECT):
            return importlib.import_module(package)
    name = _free_name(file)
    loader = SourceFileLoader(name, str(file))
    spec = ModuleSpec(name, loader, origin=str(file))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes are pickled, and dataclasses resolved, by their module's name
    try:
        with users_code(doing, timeout=timeout, file=shown, hint=GUARD_OR_CORRECT):
            exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def load_module(name: str, timeout: float = 0) -> ModuleType:
    """The module `name`, found from the current folder or installed. Use inside `at_home`.

    Raises:
        GradtoolError: there is none of that name, or importing it fails.
    """
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        package, parent = ".".join(parts[:end]), ".".join(parts[: end - 1])
        if parent and not hasattr(sys.modules.get(parent), "__path__"):
            hint = f"a name follows a colon: {parent}:{'.'.join(parts[end - 1 :])}"
            raise GradtoolError(f"{parent} is a module and no package", hint=hint)
        with users_code(f"importing {package}", timeout=timeout, hint=GUARD_OR_CORRECT):
            found = importlib.util.find_spec(package)
            if found is not None and end < len(parts):
                importlib.import_module(package)
        if found is None:
            file = Path(f"{name}.py")
            near = (
                f"did you mean {file}?"
                if file.is_file()
                else "run gradtool from the folder that holds it, or install it"
            )
            raise GradtoolError(f"there is no module {package}", hint=near)
    with users_code(f"importing {name}", timeout=timeout, hint=GUARD_OR_CORRECT):
        return importlib.import_module(name)


def _free_name(file: Path) -> str:
    """The file's stem; where that name is taken by something else, one that is free."""
    stem = file.stem.replace(".", "_")
    if not _is_taken(stem, file):
        return stem
    number, name = 1, f"target_{stem}"
    while name in sys.modules:
        number += 1
        name = f"target_{stem}_{number}"
    return name


def _is_taken(stem: str, file: Path) -> bool:
    """Whether `stem` is the name of a loaded, a standard or an installed module.

    Such a module is imported here if it is not yet, lest somebody's later `import random` find the user's random.py in
    the file's folder.
    """
    if stem in sys.modules:
        return True
    home, path = str(file.parent), list(sys.path)
    sys.path[:] = [entry for entry in path if os.path.abspath(entry) != home]
    try:
        found = importlib.util.find_spec(stem)
        taken = stem in sys.stdlib_module_names or (found is not None and _is_installed(found))
        if taken and found is not None:
            with contextlib.suppress(ImportError):
                importlib.import_module(stem)
    except (ImportError, ValueError):
        return stem in sys.stdlib_module_names
    finally:
        sys.path[:] = path
    return taken


def _is_installed(found: ModuleSpec) -> bool:
    return found.origin is None or "site-packages" in found.origin or "dist-packages" in found.origin


def _imports_its_package(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.level > 0 for node in ast.walk(tree))


def _package(file: Path) -> str | None:
    """The dotted name of a file that lies in a package, whose root folder is put on the import path; None where it lies
    in none, or where another package of that name is loaded."""
    parts, folder = [file.stem], file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) == 1:
        return None
    loaded = sys.modules.get(parts[0])
    if loaded is not None and str(folder / parts[0]) not in [
        os.path.abspath(entry) for entry in getattr(loaded, "__path__", [])
    ]:
        return None
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return ".".join(parts)
