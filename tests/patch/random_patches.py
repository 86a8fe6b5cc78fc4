"""What holds for the patch of every source: it is loaded, run and compared with the rewritten graph and with the text
that it was. `outcome` says how it went, for the test and for the benchmark."""

from __future__ import annotations

import ast
import difflib
import io
import sys
import tokenize
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from random_sources import Source
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gradcheck_tool.auditing import Reading, read
from gradcheck_tool.capturing import capture
from gradcheck_tool.remedy.base import Case
from gradcheck_tool.remedy.insert_norm import InsertNorm, NormKind, insertions_of
from gradcheck_tool.remedy.patch.proposing import Refused, propose
from gradcheck_tool.remedy.rewrite import insert, new_norm
from gradcheck_tool.results import Insertion
from gradcheck_tool.structures import tensors_in
from gradcheck_tool.target import Subject, load_subject

DEPTH = 4
Plan = tuple[Insertion, ...]


@dataclass(frozen=True)
class Outcome:
    """How it went with one source: `nothing` to patch, `patched`, `refused` or `wrong`; and why."""

    kind: str
    reason: str = ""
    after: str = ""


@contextmanager
def visited(folder: Path, files: Mapping[str, str | bytes]) -> Iterator[Subject]:
    """The model of these files, written to `folder` and loaded; afterwards none of its modules is left."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    path, stems = list(sys.path), [Path(name).stem for name in files]
    hidden = {stem: sys.modules.pop(stem) for stem in stems if stem in sys.modules}
    try:
        yield load_subject(str(folder / "model.py"), timeout=0)
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        sys.modules.update(hidden)


def planned(subject: Subject, kind: NormKind = "batch") -> tuple[Reading, Plan]:
    reading = read(subject.model, subject.inputs)
    case = Case(subject.model, subject.inputs, reading.structure, DEPTH, subject.births)
    return reading, insertions_of(InsertNorm(kind).plan(case))


def outcome(source: Source, folder: Path, kind: NormKind = "batch") -> Outcome:
    """Patches a source in `folder`, which does not exist yet, and looks at the first proposal."""
    before = {name: text.encode() for name, text in source.files.items()}
    with visited(folder / "before", source.files) as subject:
        reading, plan = planned(subject, kind)
        if not plan:
            return Outcome("nothing")
        rewritten = insert(capture(subject.model, subject.inputs)[0], plan)
        try:
            proposals = propose(subject.model, reading.structure, plan, subject.origins, frozenset())
            first = next(iter(proposals))
        except Refused as refused:
            return Outcome("refused", str(refused))
        except Exception:  # noqa: BLE001 (a patcher that breaks is a finding, as a wrong patch is)
            return Outcome("wrong", traceback.format_exc())
        changed = {Path(path).name: text for path, text in first.after.items()}
        after = {name: changed.get(name, text) for name, text in before.items()}
        shown = "\n".join(text.decode(errors="replace") for text in after.values())
        try:
            assert changed.keys() <= before.keys(), "the patch changes other files"
            assert {Path(path).name: text for path, text in first.before.items()}.items() <= before.items()
            for name in before:
                is_small(before[name], after[name])
            with visited(folder / "after", after) as patched:
                computes_the_same(subject, rewritten, patched, plan)
                assert planned(patched, kind)[1] == (), "there is nothing left to patch"
        except Exception:  # noqa: BLE001 (of the patched file, whatever it is)
            return Outcome("wrong", traceback.format_exc(), shown)
    return Outcome("patched", after=shown)


# -- what the patched file computes ------------------------------------------------------------------------------------


NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def norms_of(model: nn.Module) -> Counter[str]:
    return Counter(repr(module) for module in model.modules() if isinstance(module, NORMS))


def own_tensors(module: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a module itself, not of its parts."""
    named = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [tensor for _, tensor in named]


def signatures(model: nn.Module) -> list[tuple[tuple[object, ...], nn.Module]]:
    """(class and shapes, module) of each module that has tensors of its own, in order."""
    held = [module for module in model.modules() if own_tensors(module)]
    return [((type(module).__name__, *(tuple(t.shape) for t in own_tensors(module))), module) for module in held]


def load_old_weights(old: nn.Module, new: nn.Module) -> None:
    """Gives `new` the tensors of `old`, paired by order and shape; what it has besides are norms, freshly made."""
    waiting = signatures(old)
    for signature, module in signatures(new):
        if waiting and signature == waiting[0][0]:
            _, source = waiting.pop(0)
            for mine, theirs in zip(own_tensors(module), own_tensors(source), strict=True):
                mine.data.copy_(theirs.data)
        else:
            assert isinstance(module, NORMS), f"{signature} has no partner among the old weights"
    assert not waiting, f"{waiting[0][0]} is lost"


def outputs(model: nn.Module, subject: Subject) -> list[Tensor]:
    torch.manual_seed(0)
    return list(tensors_in(model(*subject.inputs.args, **subject.inputs.kwargs)))


def computes_the_same(subject: Subject, rewritten: nn.Module, patched: Subject, plan: Plan) -> None:
    wanted = norms_of(subject.model) + Counter(repr(new_norm(row)) for row in plan)
    assert norms_of(patched.model) == wanted, f"norms are {norms_of(patched.model)}, not {wanted}"
    load_old_weights(subject.model, patched.model)
    for training in (True, False):
        found = outputs(patched.model.train(training), subject)
        expected = outputs(rewritten.train(training), subject)
        try:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        except AssertionError as error:
            raise AssertionError(f"other outputs in {'training' if training else 'evaluation'}: {error}") from error


# -- what the patch changes --------------------------------------------------------------------------------------------

_BLANK = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER)


def tokens(text: bytes) -> tuple[list[str], list[str]]:
    """The words of Python code, and its comments."""
    found = list(tokenize.tokenize(io.BytesIO(text).readline))
    words = [token.string for token in found if token.type not in (*_BLANK, tokenize.COMMENT)]
    return words, [token.string for token in found if token.type == tokenize.COMMENT]


def missing(part: list[str], whole: list[str]) -> str | None:
    """The first of `part` that `whole` does not have, in order; None where it has all of them."""
    rest = iter(whole)
    return next((word for word in part if not any(word == other for other in rest)), None)


def is_small(before: bytes, after: bytes) -> None:
    """Whether nothing was taken away or formatted anew: the patch only adds, words to lines and lines to the file."""
    words, comments = tokens(before)
    new_words, new_comments = tokens(after)
    assert missing(words, new_words) is None, f"the code has lost {missing(words, new_words)!r}"
    assert missing(comments, new_comments) is None, f"a comment is lost or moved: {missing(comments, new_comments)}"
    old, new = before.decode().splitlines(keepends=True), after.decode().splitlines(keepends=True)
    assert (b"\r\n" in before) == (b"\r\n" in after), "line ends"
    assert b"\r\n" not in before or after.count(b"\n") == after.count(b"\r\n"), "line ends are mixed"
    editable = lines_of_calls(before)
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        added = {"".join(line.split()) for line in new[k:m]}
        if tag in ("insert", "replace") and not any(line.startswith(" ") for line in old):
            assert not any(line.startswith(" ") for line in new[k:m]), "indentation is that of the file"
        for number in range(i, j) if tag != "equal" else ():
            assert number + 1 in editable, f"line {number + 1} is changed: {old[number]!r}"
            assert "".join(old[number].split()) not in added, f"line {number + 1} is only formatted anew"


def lines_of_calls(text: bytes) -> set[int]:
    """The lines on which something stands that a patch may have to change: a call, a list, a loop or an import."""
    spans: list[ast.AST] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.For):
            spans += [node.target, node.iter]
        elif isinstance(node, (ast.Call, ast.Import, ast.ImportFrom, ast.List, ast.Dict, ast.BinOp, ast.comprehension)):
            spans += [node] if hasattr(node, "lineno") else [node.target, node.iter]
    found = {line for node in spans for line in range(node.lineno, node.end_lineno + 1)}
    lines = text.decode().splitlines()
    return {number for number in found if lines[number - 1].strip() and not lines[number - 1].lstrip().startswith("#")}
