"""Writing files whole or not at all: nobody ever reads half a report, several files change together or none does, and a
failure leaves the old ones as they were."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
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


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` (text in UTF-8) to `path` in one step: a new file in the same folder takes the place of the old.

    The mode of an existing file is kept, a symbolic link is followed and stays a link, line ends are written as they
    are. A device or a pipe is written to directly.

    Raises:
        GradtoolError: the file could not be written; then nothing has changed.
    """
    content = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with _as_gradtool_error(path):
        real = _real(path)
        if _is_special(real):
            real.write_bytes(content)
            return
    write_all({path: content})


def write_all(changes: Mapping[Path, bytes], expected: Mapping[Path, bytes] | None = None) -> None:
    """Write several files, all or none. Each is changed in one step, as `write_whole` does it.

    All new files are complete on disk before the first of them takes its place; if one cannot take its place, those
    that have done so are put back.

    Args:
        changes: the new content of each file.
        expected: what the files hold now, as far as it is known: where one holds something else, nothing is written.

    Raises:
        GradtoolError: nothing has changed; one of the files could not be written, is no ordinary file, or has been
            edited meanwhile.
    """
    with contextlib.ExitStack() as stack:
        staged = [stack.enter_context(_staged(path, content)) for path, content in changes.items()]
        for path, content in (expected or {}).items():
            with _as_gradtool_error(path):
                if not path.is_file() or path.read_bytes() != content:
                    raise GradtoolError(
                        f"{path} was edited meanwhile: nothing is written", hint="run gradtool fix again"
                    )
        if len(staged) == 1:
            staged[0].take_place()
            return
        for one in staged:
            one.keep_old()
        try:
            for one in staged:
                one.take_place()
        except BaseException:  # an interrupt too must not leave half of it
            stuck = [problem for one in staged if (problem := one.put_back())]
            if stuck:
                raise stuck[0] from None
            raise


class _Staged:
    """A new file, complete, beside the one in whose place it goes."""

    def __init__(self, path: Path, real: Path) -> None:
        self.path, self.real, self.new = path, real, _beside(real)
        self.old: Path | None = None

    def keep_old(self) -> None:
        """Gives the file that is there now, if there is one, another name too, so that it can be put back."""
        if not self.real.exists():
            return
        self.old = _beside(self.real)
        with _as_gradtool_error(self.path):
            try:
                os.link(self.real, self.old)
            except OSError:  # a file system without links
                shutil.copy2(self.real, self.old)

    def take_place(self) -> None:
        with _as_gradtool_error(self.path):
            self.new.replace(self.real)

    def put_back(self) -> GradtoolError | None:
        """Undoes `take_place`, after `keep_old`, where that was done. Returns what went wrong, if anything did."""
        if self.new.exists():
            return None
        old, self.old = self.old, None
        try:
            if old is None:
                self.real.unlink()
            else:
                old.replace(self.real)
        except OSError as error:
            kept = f"what it held is in {old}" if old else "it was not there before"
            return GradtoolError(f"{self.path} is changed and cannot be put back: {error.strerror}", hint=kept)
        return None

    def clear(self) -> None:
        """Removes what has served."""
        for leftover in (self.new, self.old):
            if leftover is not None:
                leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _staged(path: Path, content: bytes) -> Iterator[_Staged]:
    """`content` on disk beside `path`, with the mode of the file that is there. What is left of it is removed."""
    with _as_gradtool_error(path):
        real = _real(path)
        if _is_special(real):
            raise GradtoolError(f"cannot write {path}: it is no ordinary file", hint="name another file")
        staged = _Staged(path, real)
        descriptor = _create(staged.new)
    try:
        with _as_gradtool_error(path):
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if real.exists():
                staged.new.chmod(stat.S_IMODE(real.stat().st_mode))
        yield staged
    finally:
        staged.clear()


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
