"""Writing a file whole or not at all: nobody ever reads half a report, and a failure leaves the old file as it was."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from gradcheck_tool.errors import GradtoolError


def require_writable(path: Path) -> None:
    """Find out before the work starts whether `write_whole(path, …)` can succeed; leaves nothing behind.

    Raises:
        GradtoolError: the place cannot be written to.
    """
    with _as_gradtool_error(path):
        real = _real(path)
        if _is_special(real):
            return
        os.close(_create(temporary := _beside(real)))
        temporary.unlink()


def write_whole(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Write `text` to `path` in one step: a new file in the same folder takes the place of the old one.

    The mode of an existing file is kept, a symbolic link is followed and stays a link, line ends are written as they
    are. A device or a pipe is written to directly.

    Raises:
        GradtoolError: the file could not be written; then nothing has changed.
    """
    content = text.encode(encoding, "surrogateescape")
    with _as_gradtool_error(path):
        real = _real(path)
        if _is_special(real):
            real.write_bytes(content)
            return
        temporary = _beside(real)
        descriptor = _create(temporary)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if real.exists():
                temporary.chmod(stat.S_IMODE(real.stat().st_mode))
            temporary.replace(real)
        except BaseException:  # an interrupt too must leave nothing behind
            temporary.unlink(missing_ok=True)
            raise


def _real(path: Path) -> Path:
    """The file behind any symbolic links; refuses what no file can be put in the place of."""
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise GradtoolError(f"cannot write {path}: it is a folder", hint="name a file in it")
    if real.exists() and not os.access(real, os.W_OK):
        raise GradtoolError(f"cannot write {path}: the file is read-only", hint="name another file")
    if not real.parent.is_dir():
        raise GradtoolError(f"cannot write {path}: there is no folder {path.parent}", hint="make it first")
    return real


def _is_special(real: Path) -> bool:
    """Whether this is a device, a pipe or the like, which must not be replaced by a file."""
    return real.exists() and not real.is_file()


def _beside(real: Path) -> Path:
    return real.with_name(f".gradtool-{secrets.token_hex(8)}.tmp")


def _create(temporary: Path) -> int:
    """A new file with the mode that any new file gets (`tempfile` would give 0600, whatever the umask)."""
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


@contextlib.contextmanager
def _as_gradtool_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GradtoolError(f"cannot write {path}: {error.strerror or error}", hint="name another file") from error
