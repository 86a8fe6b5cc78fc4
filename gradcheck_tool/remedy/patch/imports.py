"""How a file names the classes of torch.nn, and what it has to import for a new one."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import libcst as cst

from gradcheck_tool.remedy.patch.proposal import Refused
from gradcheck_tool.remedy.patch.sequences import in_sequence
from gradcheck_tool.remedy.patch.source import Source, Splice, dotted, every


def module_name(source: Source) -> str | None:
    """The name under which the file knows torch.nn; None where it does not."""
    return next(_aliases(source), None)


def _imports(source: Source) -> list[cst.Import | cst.ImportFrom]:
    found: list[cst.Import | cst.ImportFrom] = [*every(source.module, cst.Import)]
    found += every(source.module, cst.ImportFrom)
    return sorted(found, key=lambda one: source.span(one)[0])


def _aliases(source: Source) -> Iterator[str]:
    whole: list[str] = []
    for statement in _imports(source):
        if isinstance(statement.names, cst.ImportStar):
            continue
        base = dotted(statement.module) if isinstance(statement, cst.ImportFrom) and statement.module else ""
        for alias in statement.names:
            name = dotted(alias.name)
            if name == "torch.nn" or (base == "torch" and name == "nn"):
                yield alias.evaluated_alias or name
            elif isinstance(statement, cst.Import) and name == "torch":
                whole.append(f"{alias.evaluated_alias or 'torch'}.nn")
    yield from whole


def imported(source: Source, classes: Collection[str]) -> list[Splice]:
    """The changes that add `classes` to what the file imports from torch.nn; none for what is there already."""
    if not classes:
        return []
    imports = _imports(source)
    for statement in imports:
        if not isinstance(statement, cst.ImportFrom) or not statement.module:
            continue
        if dotted(statement.module) not in ("torch.nn", "torch.nn.modules"):
            continue
        if isinstance(statement.names, cst.ImportStar):
            return []
        known = [dotted(alias.name) for alias in statement.names]
        return _added(source, list(statement.names), known, sorted(set(classes) - set(known)))
    outer = [one for one in imports if one in source.top_level]
    if not outer:
        raise Refused(f"{source.path.name} imports nothing, so there is no place for the import of {min(classes)}")
    return [source.below(outer[-1], f"from torch.nn import {', '.join(sorted(classes))}")]


def _added(source: Source, aliases: list[cst.ImportAlias], known: list[str], classes: list[str]) -> list[Splice]:
    """`classes` among imported names: where they belong if the names are sorted, else behind the last."""
    key = next((key for key in (str, str.lower) if known == sorted(known, key=key)), None) if len(known) > 1 else None
    places: dict[int, list[str]] = {}
    for name in classes:
        behind = len(known) if key is None else sum(key(one) < key(name) for one in known)
        places.setdefault(behind - 1, []).append(name)
    splices = []
    for behind, names in places.items():
        splices += in_sequence(source, aliases[max(behind, 0)], *names, before=behind < 0)
    return splices


def torch_name(source: Source) -> tuple[str, list[Splice]]:
    """The name under which the file knows torch itself, and the change that imports it where it does not.

    Raises:
        Refused: the file imports nothing.
    """
    outer = [one for one in _imports(source) if one in source.top_level]
    for statement in outer:
        for alias in statement.names if isinstance(statement, cst.Import) else ():
            name = dotted(alias.name)
            if name == "torch" or (name.startswith("torch.") and alias.asname is None):
                return alias.evaluated_alias or "torch", []
    if not outer:
        raise Refused(f"{source.path.name} imports nothing, so there is no place for the import of torch")
    first = next((one for one in outer if source.of(one).startswith("from torch")), outer[0])
    return "torch", [source.above(first, "import torch")]
