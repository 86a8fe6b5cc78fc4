"""The border to the user's code while it loads: what it raises becomes a `GradtoolError` that names the user's line.

`with users_code("importing model.py"): …` around every call into code that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradcheck_tool.border.blame import blamed
from gradcheck_tool.border.timelimit import OutOfTime, time_limit
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.sources import display_path, rank

GUARD = 'put what trains, parses arguments or exits under `if __name__ == "__main__":`'
_LONGER = "or give it longer with --timeout SECONDS"


@contextmanager
def users_code(
    doing: str, *, timeout: float = 0, file: str | None = None, line: int | None = None, hint: str | None = None
) -> Iterator[None]:
    """Runs the user's code and translates what it raises.

    Args:
        doing: what is done, as the error will say it: "importing model.py", "calling build(depth=50)".
        timeout: seconds until the code is interrupted; 0 for no limit.
        file, line: the place to name where none of the user's frames is in the traceback.
        hint: what to do about an ordinary exception.

    Raises:
        GradtoolError: for everything but a keyboard interruption, which is the person's own.
    """
    try:
        with time_limit(timeout):
            yield
    except (KeyboardInterrupt, GradtoolError):
        raise
    except BaseException as error:  # the user's code may raise anything, SystemExit among it
        raise _translated(error, doing, timeout, (file, line), hint) from error


def _translated(
    error: BaseException, doing: str, timeout: float, place: tuple[str | None, int | None], hint: str | None
) -> GradtoolError:
    found = blamed(error, doing, hint or "correct that line, or see the traceback with -v")
    if found.file is not None:
        place = found.file, found.line
    message, hint = _message(error, doing, timeout) or (found.message, found.hint)
    if isinstance(error, SyntaxError) and error.filename and rank(error.filename) < 2:
        place = display_path(error.filename), error.lineno  # no frame has run yet
    return GradtoolError(message, file=place[0], line=place[1], hint=hint, user_traceback=found.user_traceback)


def _message(error: BaseException, doing: str, timeout: float) -> tuple[str, str] | None:
    """Message and hint for an exception of a special kind; None for any other."""
    if isinstance(error, OutOfTime):
        guard = 'put what trains or downloads under `if __name__ == "__main__":`'
        return f"{doing} was not done after {timeout:g} s", f"{guard}, {_LONGER}"
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        return f"{doing} ended in sys.exit({code})", GUARD
    if isinstance(error, SyntaxError):
        return f"{doing} failed: {type(error).__name__}: {error.msg}", "correct that line"
    if isinstance(error, ImportError):
        return f"{doing} failed: {type(error).__name__}: {error}", _import_hint(error)
    return None


def _import_hint(error: ImportError) -> str:
    if "relative import" in str(error):
        return "name the file as a module of its package, from the folder above it: package.module:NAME"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"install {package} for the Python that runs gradtool (python -m pip), or correct the name"
    return "correct that import, or install what it needs"
