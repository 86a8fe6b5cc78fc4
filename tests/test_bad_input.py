"""Bad input, through the command line: one line that names the user's place and what to type next, exit 2, and nothing
else: nothing on stdout, no traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gradcheck_tool.cli import gradtool

NET = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(3, width)

    def forward(self, x):
        return self.fc(x).relu()
"""
TWO = NET + NET[NET.index("class") :].replace("Net", "Other")
NEEDY = NET.replace("width=4", "width, depth")


@dataclass(frozen=True)
class Bad:
    """What is typed after `gradtool audit`, the files that are there, and what the line on stderr must hold."""

    arguments: list[str]
    says: list[str]
    files: dict[str, str] = field(default_factory=dict)


def row(name: str, text: str | None, *says: str, arguments: tuple[str, ...] = ("model.py",), **files: str) -> object:
    """A row of the table, `text` being that of model.py."""
    all_files = {f"{stem}.py": content for stem, content in files.items()} | (
        {} if text is None else {"model.py": text}
    )
    return pytest.param(Bad(list(arguments), list(says), all_files), id=name)


def typed(name: str, *says: str, arguments: tuple[str, ...], text: str = NET) -> object:
    return row(name, text, *says, arguments=arguments)


GUARD = 'if __name__ == "__main__":'

FILES = [
    row("no such file", None, "model.py: no such file", "a TARGET is model.py, model.py:NAME"),
    row(
        "no such file but one of a similar name",
        None,
        "modle.py: no such file",
        "did you mean model.py?",
        arguments=("modle.py",),
        model=NET,
    ),
    row("a folder", None, "folder is a folder", "folder/model.py", arguments=("folder",)),
    row("a file of weights", None, "w.pt: not a Python file", "--weights w.pt", arguments=("w.pt",)),
    row("a notebook", None, "n.ipynb: not a Python file", "save the cells", arguments=("n.ipynb",)),
    row("no file before the colon", None, "':Net' names no file", arguments=(":Net",)),
    row(
        "no such module",
        None,
        "there is no module nowhere",
        "run gradtool from the folder",
        arguments=("nowhere.nets:Net",),
    ),
    row(
        "a module that is a file", NET, "model is a module and no package", "model:py.net", arguments=("model.py.net",)
    ),
    row("neither file nor module", None, "'a b' is neither a file nor", arguments=("a b",)),
    row("an empty file", "", "model.py: the file is empty"),
    row("bytes that are no text", "\udcff\udcfe = 1", "model.py:1: importing model.py failed: SyntaxError"),
]

IMPORTS = [
    row(
        "a syntax error",
        NET + "def f(:\n",
        "model.py:11: importing model.py failed: SyntaxError: invalid syntax",
        "correct that line",
    ),
    row(
        "a syntax error in a sibling",
        "import sibling\n" + NET,
        "sibling.py:1: importing model.py failed: SyntaxError",
        sibling="x = = 1",
    ),
    row(
        "an unknown module",
        "import torchvizion_nn\n" + NET,
        "model.py:1:",
        "No module named 'torchvizion_nn'",
        "install torchvizion_nn",
    ),
    row(
        "an unknown name of a module",
        "from math import sine\n" + NET,
        "model.py:1:",
        "cannot import name 'sine'",
        "correct that import",
    ),
    row(
        "an unknown module in a sibling",
        "import sibling\n" + NET,
        "sibling.py:2:",
        "No module named 'zzz'",
        sibling="\nimport zzz",
    ),
    row("a relative import outside a package", "from .x import y\n" + NET, "model.py:1:", "package.module:NAME"),
    row(
        "an exception at import",
        NET + "1 / 0\n",
        "model.py:11: importing model.py raised ZeroDivisionError: division by zero",
        GUARD,
    ),
    row(
        "an exception inside torch at import",
        NET + "torch.ones(2) @ torch.ones(3)\n",
        "model.py:11: importing model.py raised RuntimeError",
    ),
    row("an assertion without words", NET + "assert 0\n", "model.py:11: importing model.py raised AssertionError"),
    row("several lines of message", NET + "raise ValueError('one\\ntwo')\n", "model.py:11:", "ValueError: one two"),
    row(
        "sys.exit at import",
        NET + "import sys\nsys.exit(3)\n",
        "model.py:12: importing model.py ended in sys.exit(3)",
        GUARD,
    ),
    row(
        "an argument parser at import",
        NET + "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\np.error = exit\np.parse_args()",
        "model.py:15: importing model.py ended in sys.exit",
        GUARD,
    ),
    row(
        "endless recursion at import",
        NET + "def f(): f()\nf()\n",
        "model.py:11: importing model.py raised RecursionError",
    ),
    row(
        "training at import",
        NET + "while True: pass\n",
        "model.py:11: importing model.py was not done after 0.2 s",
        GUARD,
        "--timeout",
        arguments=("model.py", "--timeout", "0.2"),
    ),
]

MODELS = [
    row("no model", "x = 1\n", "model.py: no model found: no nn.Module called model", "model.py:NAME"),
    row("imported classes only", "from torch.nn import Linear\n", "model.py: no model found"),
    row("several classes", TWO, "model.py: several models fit: Net, Other", "model.py:Net, model.py:Other"),
    row(
        "several factories",
        NET + "def get_model(): return Net()\ndef make_model(): return Net()\n",
        "get_model, make_model",
    ),
    row(
        "an instance of another name",
        NEEDY + "net = Net(1, 2)\n",
        "candidates: net, Net(width=…, depth=…)",
        "model.py:net",
    ),
    row(
        "a constructor that needs arguments",
        NEEDY,
        "model.py:4: Net needs arguments: width, depth",
        "model.py:Net(width=…, depth=…)",
    ),
    row(
        "a named constructor that needs arguments",
        NEEDY,
        "model.py:4: Net needs arguments",
        arguments=("model.py:Net",),
    ),
    row(
        "one argument missing",
        NEEDY,
        "model.py:4:",
        "missing a required argument: 'depth'",
        arguments=("model.py:Net(width=3)",),
    ),
    row(
        "a factory that needs an argument",
        "def build_model(depth): ...\n",
        "model.py:1: build_model needs an argument: depth",
        "model.py:build_model(depth=…)",
    ),
    typed(
        "an unknown argument",
        "got an unexpected keyword argument 'hiden'",
        "model.py:Net",
        arguments=("model.py:Net(hiden=3)",),
    ),
    typed("a missing name", "there is no Nett in model.py", "did you mean Net?", arguments=("model.py:Nett",)),
    typed(
        "a missing name with nothing near",
        "there is no zzz in model.py",
        "did you mean Net?",
        arguments=("model.py:zzz",),
    ),
    typed(
        "a missing attribute",
        "model.py: there is no fcc in net",
        "did you mean fc?",
        arguments=("model.py:net.fcc",),
        text=NET + "net = Net()",
    ),
    typed(
        "an argument that is no literal", "the argument os.sep in", "not a literal", arguments=("model.py:Net(os.sep)",)
    ),
    typed(
        "more than a name",
        "is more than a name or one call",
        "model.py:build(depth=50)",
        arguments=("model.py:Net().fc",),
    ),
    typed("no Python after the colon", "is not Python", "model.py:Net", arguments=("model.py:Net(",)),
    typed(
        "an instance, called",
        "model.py:11: net is a model already",
        "model.py:net",
        arguments=("model.py:net()",),
        text=NET + "net = Net()",
    ),
    typed("a number", "model.py:11: n is of type int, not a model", arguments=("model.py:n",), text=NET + "n = 3"),
    row(
        "a constructor that raises",
        NET.replace("super().__init__()", "super().__init__(); 1 / 0"),
        "model.py:6: calling Net() raised ZeroDivisionError",
    ),
    row(
        "a forgotten super().__init__",
        NET.replace("super().__init__()", "pass"),
        "model.py:7: calling Net() raised AttributeError",
    ),
    row(
        "a factory that returns nothing",
        "def build_model(): pass\n",
        "model.py:1: build_model() returned None, not an nn.Module",
    ),
    row(
        "a factory that returns a pair",
        NET + "def build_model(): return Net(), 1\n",
        "model.py:11: build_model() returned a tuple",
    ),
    row(
        "a factory that exits",
        "def build_model(): raise SystemExit\n",
        "model.py:1: calling build_model() ended in sys.exit()",
    ),
    row(
        "no parameters",
        "from torch import nn\nmodel = nn.ReLU()\n",
        "model.py: ReLU has no parameters",
        "nn.ModuleList",
    ),
    row(
        "a scripted module",
        NET + "model = torch.jit.script(Net())\n",
        "model.py: model is a TorchScript module",
        "name the nn.Module",
    ),
]

INPUTS = [
    typed(
        "a wrong grammar of --input",
        "--input '32,3' cannot be read",
        "--input 32x784",
        arguments=("model.py", "--input", "32,3"),
    ),
    typed("a wrong dtype of --input", "did you mean float32?", arguments=("model.py", "--input", "32x3:floot32")),
    typed(
        "an unknown name of --input",
        "forward of Net has no argument y; it takes x",
        arguments=("model.py", "--input", "y=32x3"),
    ),
    typed(
        "two inputs for one argument",
        "too many positional arguments",
        arguments=("model.py", "--input", "2x3", "--input", "2x3"),
    ),
    typed(
        "both ways to give inputs",
        "both --input and --inputs-from",
        arguments=("model.py", "--input", "2x3", "--inputs-from", "model.py:f"),
    ),
    typed("a missing file of inputs", "data.py: no such file", arguments=("model.py", "--inputs-from", "data.py:f")),
    typed(
        "a missing function of inputs",
        "there is no f in model.py",
        arguments=("model.py", "--inputs-from", "model.py:f"),
    ),
    typed(
        "a file without inputs",
        "defines neither example_inputs nor example_batch",
        arguments=("model.py", "--inputs-from", "model.py"),
    ),
    row(
        "example_inputs that raise",
        NET + "def example_inputs():\n    return 1 / 0\n",
        "model.py:12: calling example_inputs() raised ZeroDivisionError",
    ),
    row("example_inputs with arguments", NET + "def example_inputs(n): ...\n", "model.py:11: example_inputs needs n"),
    row(
        "example_inputs without a tensor",
        NET + "example_inputs = 'x'\n",
        "model.py: example_inputs is a str without a tensor in it",
    ),
    row(
        "an example_batch that is no pair",
        NET + "example_batch = torch.ones(2, 3)\n",
        "model.py: example_batch is a Tensor, not a pair",
        "(inputs, targets)",
    ),
    row(
        "a loss class for a loss",
        NET + "example_batch = (torch.ones(2, 3), 0)\nloss_fn = nn.MSELoss\n",
        "loss_fn = MSELoss()",
    ),
    row(
        "no input that fits",
        NET.replace("(x)", "(x['a'])"),
        "model.py:10: could not find an input that Net takes; tried 32x3, ",
        "--input 32x3",
    ),
    typed("a wrong shape", "model.py:10:", "x=32x4:float32", "--input", arguments=("model.py", "--input", "32x4")),
    row(
        "a forward that raises",
        NET.replace("return", "raise KeyError('lost') #") + "example_inputs = torch.ones(2, 3)\n",
        "model.py:10:",
        "KeyError",
        "lost",
    ),
    row(
        "an output without a float tensor",
        NET.replace(".relu()", ".argmax(1)") + "example_inputs = torch.ones(2, 3)\n",
        "no float",
        arguments=("model.py", "--probe"),
    ),
]

OTHERS = [
    typed("no such weights", "w2.pt: no such file of weights", arguments=("model.py", "--weights", "w2.pt")),
    typed(
        "weights that are no weights",
        "model.py: cannot be read as a file of torch.save",
        arguments=("model.py", "--weights", "model.py"),
    ),
    typed(
        "weights that do not fit",
        "w.pt: the weights do not fit Net: missing fc.weight, fc.bias; unexpected bc",
        arguments=("model.py", "--weights", "w.pt"),
    ),
    typed(
        "weights of another shape",
        "w.pt: the weights do not fit Net",
        "bc is 2 and not 3",
        arguments=("model.py", "--weights", "w.pt"),
        text=NET.replace("self.fc =", "self.bc = nn.Parameter(torch.ones(3)); self.fc ="),
    ),
    typed(
        "a pickled model for weights",
        "whole.pt: holds more than tensors",
        "model.state_dict()",
        arguments=("model.py", "--weights", "whole.pt"),
    ),
    typed(
        "an unknown device",
        "--device gpu is no device of torch",
        "cpu, cuda",
        arguments=("model.py", "--device", "gpu"),
    ),
    typed(
        "a device that is not here",
        "--device cuda:77 cannot be used here",
        "--device cpu",
        arguments=("model.py", "--device", "cuda:77"),
    ),
    typed("an unknown rule code", "GT999", arguments=("model.py", "--select", "GT999")),
    typed("an unwritable output", "nowhere", arguments=("model.py", "--output-file", "nowhere/report.txt")),
]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with files of several kinds to mistake for a model, in which one types."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "folder").mkdir()
    (tmp_path / "n.ipynb").write_text("{}")
    torch.save({"bc": torch.ones(2)}, tmp_path / "w.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")


def put(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).write_text(text, errors="surrogateescape")


@pytest.mark.parametrize("case", [*FILES, *IMPORTS, *MODELS, *INPUTS, *OTHERS])
def test_bad_input_gets_one_line_and_exit_code_2(case: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    for sibling in ("sibling", "model"):
        monkeypatch.delitem(sys.modules, sibling, raising=False)
    put(case.files)
    there = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = CliRunner().invoke(gradtool, ["audit", *case.arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for words in case.says:
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == there


@pytest.mark.parametrize(
    "command", [["audit"], ["probe"], ["fix", "--insert-bn"], ["audit", "--format", "json"]], ids=" ".join
)
def test_every_command_in_a_process_of_its_own(command: list[str]) -> None:
    put({"model.py": "print('loading')\n" + NET + "import sys; sys.exit('bye')\n"})
    done = subprocess.run(
        [sys.executable, "-m", "gradcheck_tool", *command, "model.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if line != "loading"]
    assert (done.returncode, done.stdout, len(said)) == (2, "", 1)
    assert "model.py:12: importing model.py ended in sys.exit('bye')" in said[0]
    assert not Path("__pycache__").exists()


def test_the_users_own_traceback_is_shown_when_asked_for_and_cut_to_the_users_frames() -> None:
    put({"model.py": NET + "def f():\n    return torch.ones(2) @ torch.ones(3)\nf()\n"})
    result = CliRunner().invoke(gradtool, ["audit", "-v", "model.py"])
    assert result.exit_code == 2
    assert 'model.py", line 13, in <module>' in result.stderr
    assert 'model.py", line 12, in f' in result.stderr
    assert "gradcheck_tool" not in result.stderr
    assert "importlib" not in result.stderr
