"""Every form of TARGET, and what loading one leaves behind: right model, right name, nothing else touched."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.target import Subject, load_subject
from gradcheck_tool.target.spec import parse

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden=4):
        super().__init__()
        self.fc1 = nn.Linear(3, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, x):
        return self.fc2(self.fc1(x).relu())
"""


WHOLE = """
class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        return self.net(x)
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(text: str, name: str = "model.py") -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def hidden_of(subject: Subject) -> int:
    return subject.model.get_parameter("fc1.weight").shape[0]


@pytest.mark.parametrize(
    ("spec", "extra", "hidden", "object_"),
    [
        pytest.param("model.py", "", 4, "Net", id="the only class of the file"),
        pytest.param("model.py:Net", "", 4, "Net", id="a class"),
        pytest.param("model.py:Net(hidden=6)", "", 6, "Net(hidden=6)", id="a class with a keyword argument"),
        pytest.param("model.py:Net(7)", "", 7, "Net(7)", id="a class with a positional argument"),
        pytest.param("model.py:net", "net = Net(5)", 5, "net", id="an instance"),
        pytest.param(
            "model.py:trainer.model",
            "class T: model = Net(9)\ntrainer = T()",
            9,
            "trainer.model",
            id="a dotted instance",
        ),
        pytest.param("model.py:build()", "def build(h=8): return Net(h)", 8, "build()", id="a function, called"),
        pytest.param("model.py:build", "def build(h=8): return Net(h)", 8, "build", id="a function, named"),
        pytest.param(
            "model.py:build({'h': [3, 2]})", "def build(c): return Net(c['h'][0])", 3, None, id="nested literals"
        ),
        pytest.param(
            "model.py:build('a:b')", "def build(s): return Net(len(s))", 3, None, id="a colon inside a string"
        ),
        pytest.param(
            "model.py:F.make(h=2)",
            "class F:\n  @staticmethod\n  def make(h): return Net(h)",
            2,
            None,
            id="a dotted call",
        ),
        pytest.param("model.py", "model = Net(5)", 5, "model", id="the instance called model before the class"),
        pytest.param(
            "model.py", "def build_model(): return Net(6)", 6, "build_model", id="build_model before the class"
        ),
        pytest.param(
            "model.py", "def get_model(name): return Net(6)", 4, "Net", id="a factory with arguments does not count"
        ),
        pytest.param(
            "model.py",
            "class Big(nn.Module):\n  def __init__(s, w): super().__init__()",
            4,
            "Net",
            id="nor does such a class",
        ),
        pytest.param(
            "model.py",
            "class Trainer:\n  def __init__(s): s.net = Net()",
            4,
            "Net",
            id="use by a plain class is no use",
        ),
        pytest.param("model.py", "Alias = Net", 4, "Net", id="an alias is no second class"),
        pytest.param(
            "model.py:m", "import torch\nm = nn.DataParallel(Net(3))", 3, "m", id="the model inside DataParallel"
        ),
        pytest.param(
            "model.py:m", "import torch\nm = torch.compile(Net(3))", 3, "m", id="the model inside torch.compile"
        ),
    ],
)
def test_target_names_a_model(spec: str, extra: str, hidden: int, object_: str | None) -> None:
    write(NET + extra + "\n")
    subject = load_subject(spec)
    assert hidden_of(subject) == hidden
    assert type(subject.model).__name__ == "Net"
    assert subject.target.file == "model.py"
    assert subject.target.spec == spec
    assert subject.target.object == (object_ or spec.partition(":")[2])


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(WHOLE, id="in its constructor"),
        pytest.param("class Whole(Net): pass", id="as its base"),
        pytest.param("def make(): return Net()\n" + WHOLE.replace("Net()", "make()"), id="by way of a function"),
        pytest.param("KINDS = {'net': Net}\n" + WHOLE.replace("Net()", "KINDS['net']()"), id="by way of a table"),
    ],
)
def test_a_class_that_another_model_uses_is_not_meant(user: str) -> None:
    write(NET + user)
    assert load_subject("model.py").target.object == "Whole"


@pytest.mark.parametrize(
    ("package", "spec"),
    [
        pytest.param("pkg_a", "pkg_a.nets:Net", id="as a module and a name"),
        pytest.param("pkg_b", "pkg_b.nets:Net(hidden=5)", id="as a module and a call"),
        pytest.param("pkg_c", "pkg_c.nets", id="as a module"),
        pytest.param("pkg_d", "pkg_d/nets.py", id="as a file"),
    ],
)
def test_a_module_of_a_package_and_its_relative_imports(package: str, spec: str) -> None:
    write("", f"{package}/__init__.py")
    write("WIDTH = 4", f"{package}/sizes.py")
    write("from .sizes import WIDTH\n" + NET, f"{package}/nets.py")
    subject = load_subject(spec)
    assert subject.target.file == f"{package}/nets.py"
    assert pickle.loads(pickle.dumps(subject.model)) is not None


@pytest.mark.parametrize(
    "name", ["torch.py", "random.py", "test.py", "numpy.py", "my-model.v2.py", "01 net.py", "statistics.py"]
)
def test_a_file_may_be_called_anything(name: str) -> None:
    write(
        "import random, statistics\nfrom dataclasses import dataclass\n@dataclass\nclass Config:\n    width: int = 3\n"
        + NET,
        name,
    )
    loaded = sys.modules["torch"], sys.modules["random"]
    subject = load_subject(name)
    assert (sys.modules["torch"], sys.modules["random"]) == loaded
    assert pickle.loads(pickle.dumps(subject.model)).fc1.in_features == 3
    assert random.Random is sys.modules["random"].Random


def test_the_folder_of_the_file_is_importable_while_it_loads_and_in_forward() -> None:
    write("WIDTH = 5", "sub/eager_sibling.py")
    write("def scale(layer): return layer", "sub/late_sibling.py")
    late = "        from late_sibling import scale\n        return scale("
    text = NET.replace("hidden=4", "hidden=WIDTH").replace("        return self.fc2(", late + "self.fc2)(")
    write("from eager_sibling import WIDTH\n" + text, "sub/model.py")
    subject = load_subject("sub/model.py")
    assert hidden_of(subject) == 5
    assert subject.model(torch.randn(2, 3)).shape == (2, 2)
    assert sys.path[0] != str(Path("sub").absolute())


def test_loading_leaves_arguments_folder_and_random_state() -> None:
    write(
        "import os, sys, random, torch\nassert len(sys.argv) == 1\nos.chdir('/')\ntorch.rand(7)\nrandom.seed(7)\n" + NET
    )
    states, argv, here = (torch.get_rng_state(), random.getstate()), list(sys.argv), os.getcwd()
    load_subject("model.py")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), sys.argv, os.getcwd()) == (states[1], argv, here)


def test_loading_writes_nothing() -> None:
    write("", "lib/__init__.py")
    write("import lib\n" + NET)
    load_subject("model.py")
    assert sorted(str(path) for path in Path().rglob("*")) == ["lib", "lib/__init__.py", "model.py"]


def test_the_name_of_the_module_is_not_main() -> None:
    write("assert __name__ != '__main__'\nif __name__ == '__main__':\n    raise SystemExit\n" + NET)
    assert load_subject("model.py").target.object == "Net"


def test_one_seed_gives_the_same_weights_and_inputs() -> None:
    write(NET)
    first, same, other = (load_subject("model.py", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.model.get_parameter("fc1.weight"), same.model.get_parameter("fc1.weight"))
    assert torch.equal(first.inputs.args[0], same.inputs.args[0])
    assert not torch.equal(first.model.get_parameter("fc1.weight"), other.model.get_parameter("fc1.weight"))


def test_the_places_of_construction_are_the_lines_of_the_file() -> None:
    write(NET)
    births = load_subject("model.py").births
    assert (births["fc1"].file, births["fc1"].line, births["fc2"].line) == ("model.py", 7, 8)


def test_lazy_layers_have_their_size_afterwards() -> None:
    write("from torch import nn\nmodel = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(2))")
    subject = load_subject("model.py", input_specs=["8x11"])
    assert [tuple(parameter.shape) for parameter in subject.model.parameters()] == [(5, 11), (5,), (2, 5), (2,)]
    assert subject.model.training


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="plain"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="under state_dict"),
        pytest.param(lambda state: {"model": state}, id="under model"),
        pytest.param(lambda state: {f"module.{key}": value for key, value in state.items()}, id="of DataParallel"),
        pytest.param(lambda state: {f"_orig_mod.{key}": value for key, value in state.items()}, id="of torch.compile"),
    ],
)
def test_weights_are_loaded(wrap: object) -> None:
    write(NET)
    state = {key: torch.full_like(value, 0.5) for key, value in load_subject("model.py").model.state_dict().items()}
    torch.save(wrap(state), "w.pt")  # type: ignore[operator]
    model = load_subject("model.py", weights="w.pt").model
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_weights_in_safetensors_are_loaded() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    write(NET)
    safetensors.save_file(
        {key: value + 1 for key, value in load_subject("model.py").model.state_dict().items()}, "w.safetensors"
    )
    model = load_subject("model.py", weights="w.safetensors").model
    assert torch.equal(model.get_parameter("fc2.bias"), load_subject("model.py").model.get_parameter("fc2.bias") + 1)


def test_the_model_and_its_inputs_are_on_the_device() -> None:
    write(NET)
    subject = load_subject("model.py", device="meta")
    assert {parameter.device.type for parameter in subject.model.parameters()} == {"meta"}
    assert subject.inputs.args[0].device.type == "meta"


@pytest.mark.parametrize(
    ("text", "place", "expression"),
    [
        pytest.param("a/b.py:Net", "a/b.py", "Net", id="a file and a name"),
        pytest.param("a/b.py", "a/b.py", None, id="a file alone"),
        pytest.param("a/b.py:f('x:y')", "a/b.py", "f('x:y')", id="a colon in an argument"),
    ],
)
def test_a_target_is_split_at_its_first_colon(text: str, place: str, expression: str | None) -> None:
    write(NET, "a/b.py")
    parsed = parse(text)
    assert (parsed.place, parsed.expression) == (place, expression)


@pytest.mark.parametrize(
    "argument", ["x", "len('a')", "1 + x", "[n for n in (1,)]", "__import__('os')", "f'{1}'", "*(1,)"]
)
def test_nothing_but_literals_is_read_as_an_argument(argument: str) -> None:
    write(NET)
    with pytest.raises(GradtoolError, match="not a literal"):
        parse(f"model.py:Net({argument})")


def test_training_on_import_is_interrupted_and_told_about_the_guard() -> None:
    write(NET + "import time\nwhile True:\n    try:\n        time.sleep(0.05)\n    except Exception:\n        pass\n")
    with pytest.raises(GradtoolError, match=r'model\.py:1[45678]: .*not done after 0\.3 s.*__name__ == "__main__"'):
        load_subject("model.py", timeout=0.3)


def test_the_time_limit_holds_in_a_thread_too() -> None:
    write(NET + "while True: pass\n")
    program = (
        "import threading\nfrom gradcheck_tool.target import load_subject\n"
        "def work():\n    try: load_subject('model.py', timeout=0.3)\n    except Exception as error: print(error)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "was not done after 0.3 s" in done.stdout


def test_a_subject_keeps_the_loss_and_the_targets_of_the_file() -> None:
    write(
        NET + "import torch\ndef example_batch(): return torch.ones(8, 3), torch.zeros(8, 2)\nloss_fn = nn.MSELoss()\n"
    )
    subject = load_subject("model.py")
    assert isinstance(subject.loss_fn, nn.MSELoss)
    assert subject.targets.shape == (8, 2)
    assert subject.inputs.origin == "file"
