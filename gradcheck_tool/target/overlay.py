"""Sources in the place of those on disk, for a while: what loads or imports a file, or prints a line of it, sees them.

Nothing is written, and no compiled file of Python's own cache is read for them.
"""

from __future__ import annotations

import io
import linecache
import os
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

_laid: dict[str, bytes] = {}
"""The sources, by the real paths of the files that they stand for."""


def read(file: Path) -> bytes:
    """The source of `file`: what is laid over it, else what is on disk.

    Raises:
        OSError: there is nothing laid over it, and it cannot be read.
    """
    laid = _find(str(file))
    return file.read_bytes() if laid is None else laid


@contextmanager
def overlaid(sources: Mapping[Path, bytes]) -> Iterator[None]:
    """Lays `sources` over the files of these paths: for `read`, for Python's import system, and for tracebacks.

    Modules that are imported already stay what they are.
    """
    laid = {os.path.realpath(path): source for path, source in sources.items()}
    names = {name: source for path, source in sources.items() for name in (str(path), os.path.realpath(path))}
    before, lines = dict(_laid), {name: linecache.cache.get(name) for name in names}
    _laid.update(laid)
    for name, source in names.items():
        linecache.cache[name] = (len(source), None, _lines(source), name)  # no time: never compared with the disk
    try:
        with _imports_see_them():
            yield
    finally:
        _laid.clear()
        _laid.update(before)
        for name, entry in lines.items():
            linecache.cache.pop(name, None)
            if entry is not None:
                linecache.cache[name] = entry


@contextmanager
def _imports_see_them() -> Iterator[None]:
    """Python's loader of source files reads what is laid over a file, and has no date to compare a cached one with."""
    loader: Any = SourceFileLoader
    get_data, path_stats = loader.get_data, loader.path_stats
    own = {name: vars(loader)[name] for name in ("get_data", "path_stats") if name in vars(loader)}

    def data(self: SourceFileLoader, path: str) -> bytes:
        laid = _find(path)
        source: bytes = get_data(self, path) if laid is None else laid
        return source

    def stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        if _find(path) is not None:
            raise OSError("no compiled file belongs to this source")
        found: Mapping[str, Any] = path_stats(self, path)
        return found

    loader.get_data, loader.path_stats = data, stats
    try:
        yield
    finally:
        for name in ("get_data", "path_stats"):
            delattr(loader, name)
            if name in own:
                setattr(loader, name, own[name])


def _find(path: str) -> bytes | None:
    return _laid.get(os.path.realpath(path)) if _laid and path.endswith(".py") else None


def _lines(source: bytes) -> list[str]:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        text = source.decode("latin-1")
    return list(io.StringIO(text, newline=None))
