"""Code generation for graphs whose modules and parameters have any name: `in`, `lambda`, `we"ird`.

torch.fx writes `self.blocks.in`, which is no Python, where a submodule is called as a keyword is.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import replace
from typing import Any

from torch.fx.graph import CodeGen, PythonCode, _format_target


class AnyNameCodeGen(CodeGen):
    """torch.fx's own code generation, with attributes that are no identifiers read by `getattr`."""

    def _gen_python_code(self, nodes: Any, root_module: str, *args: Any, **kwargs: Any) -> PythonCode:
        code: PythonCode = super()._gen_python_code(nodes, root_module, *args, **kwargs)
        targets = {node.target for node in nodes if node.op in ("call_module", "get_attr") and _is_awkward(node.target)}
        source = code.src
        for target in sorted(targets, key=len, reverse=True):
            wrong = re.escape(_format_target(root_module, target))
            right = _attribute(root_module, target).replace("\\", r"\\")
            source = re.sub(rf"(?<![\w.]){wrong}(?![\w.])", right, source)
        return replace(code, src=source)


def _is_awkward(target: str) -> bool:
    return any(keyword.iskeyword(name) or '"' in name or "\\" in name or "\n" in name for name in target.split("."))


def _attribute(root: str, target: str) -> str:
    expression = root
    for name in target.split("."):
        natural = name.isidentifier() and not keyword.iskeyword(name)
        expression = f"{expression}.{name}" if natural else f"getattr({expression}, {name!r})"
    return expression
