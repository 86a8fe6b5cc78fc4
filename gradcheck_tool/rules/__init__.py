"""The rules of audit: one file each, found by themselves.

A rule's file defines `CODE`, `NAME` and `check(view)`, which yields findings; its docstring is what `gradtool explain`
prints. Nothing here imports torch, so that `explain` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.results import Finding

if TYPE_CHECKING:
    from gradcheck_tool.rules.view import View


@dataclass(frozen=True)
class Rule:
    """One rule: its code and name, what it says of itself, and the function that applies it."""

    code: str
    name: str
    explanation: str
    check: Callable[[View], Iterable[Finding]]

    @property
    def summary(self) -> str:
        """The first line of the explanation."""
        return self.explanation.partition("\n")[0]


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, by code."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("gt"):
            module = importlib.import_module(f"{__name__}.{info.name}")
            found.append(Rule(module.CODE, module.NAME, inspect.cleandoc(module.__doc__ or ""), module.check))
    return tuple(sorted(found, key=lambda rule: rule.code))


def find_rule(code_or_name: str) -> Rule:
    """The rule of that code or name.

    Raises:
        GradtoolError: there is none.
    """
    wanted = code_or_name.strip()
    for rule in all_rules():
        if wanted.upper() == rule.code or wanted.lower() == rule.name:
            return rule
    raise _unknown(wanted)


def parse_codes(values: Sequence[str]) -> tuple[str, ...]:
    """The codes that `--select` or `--ignore` were given, separated by commas; `GT0` stands for all that begin so.

    Raises:
        GradtoolError: no rule's code begins so, and no rule has that name.
    """
    codes: dict[str, None] = {}
    for word in (word.strip() for value in values for word in value.split(",")):
        matching = (
            [r.code for r in all_rules() if r.code.startswith(word.upper()) or r.name == word.lower()] if word else []
        )
        if word and not matching:
            raise _unknown(word)
        codes.update(dict.fromkeys(matching))
    return tuple(codes)


def _unknown(word: str) -> GradtoolError:
    known = [known for rule in all_rules() for known in (rule.code, rule.name)]
    near = difflib.get_close_matches(word, known, n=1) or difflib.get_close_matches(word.upper(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else "gradtool explain lists all rules"
    return GradtoolError(f"there is no rule {word}", hint=hint)
