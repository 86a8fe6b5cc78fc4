"""torch's compiler and sympy stay out of a recording, and are whole where somebody asks for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PREAMBLE = """
import sys
import torch
from torch import nn
import gradcheck_tool as gct
from gradcheck_tool.compiler import uncompiled
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8))
x = torch.randn(2, 3, 4, 4)
finders = list(sys.meta_path)
"""
WHOLE = """
assert sys.meta_path == finders, "a finder is left"
double = torch.compile(lambda x: torch.ones_like(x) * 2, backend="eager")
assert double(torch.ones(2)).tolist() == [2.0, 2.0]
import sympy
assert sympy.Symbol("x").is_symbol and isinstance(sympy.Symbol("x"), sympy.Basic)
exported = torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
assert torch.equal(exported.module()(x[:1]), model(x[:1]))
"""


def run(code: str) -> str:
    """What a fresh Python prints for `code`."""
    done = subprocess.run([sys.executable, "-c", PREAMBLE + code + WHOLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_finding_the_inputs_loads_neither_compiler_nor_sympy() -> None:
    loaded = run("gct.audit(model)\nprint([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_an_audit_loads_neither_compiler_nor_sympy() -> None:
    loaded = run("gct.audit(model, x)\nprint([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])")
    assert loaded.strip() == "[]"


STATEMENTS = [
    "import torch._dynamo.config as config; assert config is sys.modules['torch._dynamo'].config",
    "from torch._dynamo import allow_in_graph; assert callable(allow_in_graph)",
    "import torch._dynamo.utils; assert torch._dynamo.utils.__name__ == 'torch._dynamo.utils'",
    "assert torch._dynamo.is_compiling() is False",
    "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2.0, 2.0]",
    "from sympy import Basic, Symbol; assert isinstance(Symbol('x'), Basic)",
    "import sympy; assert isinstance(sympy.Symbol('x'), sympy.Basic)",
    "from torch.fx.experimental.symbolic_shapes import ShapeEnv; assert ShapeEnv()",
]
EACH = """
import os
for statement in {statements!r}:
    if (pid := os.fork()) == 0:
        with uncompiled():
            nn.Linear(2, 2, device="meta")(torch.ones(3, 2, device="meta"))
            exec(statement)
        assert sys.meta_path == finders, "a finder is left"
        assert torch.compile(lambda x: x * 2, backend="eager")(torch.ones(2)).tolist() == [2.0, 2.0]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, statement
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_who_asks_for_them_inside_gets_the_real_ones() -> None:
    run(EACH.format(statements=STATEMENTS))
