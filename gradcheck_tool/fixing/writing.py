"""A change, written: over the user's own files, to one file, or into a folder. All of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.files import write_all, write_whole
from gradcheck_tool.fixing.change import Change, module_path
from gradcheck_tool.results import Target
from gradcheck_tool.sources import display_path


def write(change: Change, target: Target, output: Path | None, in_place: bool) -> str | None:
    """Writes the files of `change` where it is asked for.

    Args:
        change: what there is to write.
        target: what was changed.
        output: the file, or for several files the folder, to write to.
        in_place: whether to write over the user's own files instead. A new module is not written so.

    Returns:
        Where to, for a person; None where nothing is written.

    Raises:
        GradtoolError: it cannot be written, or one of the user's files was edited since it was read.
    """
    before, after = change.proposal.before, change.proposal.after
    if not after or (output is None and not in_place) or (in_place and change.refused is not None):
        return None
    if in_place or output is None:
        places = {file: Path(display_path(str(file))) for file in after}
    elif change.refused is not None:
        place = module_path(target, output)
        _require_other(place, target)
        places = dict.fromkeys(after, place)
    else:
        places = placed(after, output)
    known = {place: before[file] for file, place in places.items() if file in before and _is_same(file, place)}
    if len(places) == 1 and not known:
        for file, place in places.items():
            write_whole(place, after[file])
    else:
        _make_folders(places.values())
        write_all({place: after[file] for file, place in places.items()}, known)
    return ", ".join(map(str, places.values())) if in_place or len(places) == 1 else str(output)


def placed(files: Collection[Path], output: Path) -> dict[Path, Path]:
    """The place of each of the user's `files`: `output` for a single one, else below the folder `output` where it lies
    below the folder from which all of them are imported.

    Raises:
        GradtoolError: there are several, and `output` is a file, or is called like one.
    """
    if len(files) == 1 and not output.is_dir():
        return dict.fromkeys(files, output)
    if not output.is_dir() and (output.exists() or output.suffix == ".py"):
        raise GradtoolError(
            f"{len(files)} of your files change, and {output} is one file",
            hint=f"name a folder for them: -o {output.with_suffix('')}",
        )
    root = os.path.commonpath([_import_root(file) for file in files])
    return {file: output / file.relative_to(root) for file in files}


def _import_root(file: Path) -> Path:
    """The folder from which a file is imported: its own, or where it lies in a package, the one above that."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _is_same(file: Path, place: Path) -> bool:
    return place.exists() and place.samefile(file)


def _require_other(place: Path, target: Target) -> None:
    """The module builds what the user's file defines: it cannot take that file's place."""
    if target.file is not None and _is_same(Path(target.file), place):
        raise GradtoolError(f"cannot write {place}: the model that is fixed is defined there", hint="name another file")


def _make_folders(places: Collection[Path]) -> None:
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot make the folder {place.parent}: {error.strerror}"
            raise GradtoolError(reason, hint="name another folder") from error
