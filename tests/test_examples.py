"""The examples: import without side effects, run as scripts, and show what they are there to show.

What gradtool says about them is tested elsewhere.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

EXAMPLES = Path(__file__).parent.parent / "examples"

# file, the callable that builds its model, the shape of one sample
MODELS = [
    pytest.param("shallow_sigmoid_mlp", "ShallowSigmoidMLP", (64,), id="shallow sigmoid MLP"),
    pytest.param("deep_sigmoid_mlp", "DeepSigmoidMLP", (64,), id="deep sigmoid MLP"),
    pytest.param("plain_conv_net", "PlainConvNet", (1, 8, 8), id="plain conv net"),
    pytest.param("article_bn_net", "build_model", (784,), id="784-500-BN-ReLU-10 net"),
    pytest.param("handwritten_batchnorm", "Net", (64,), id="net with a hand-written batch norm"),
]
WITH_EXAMPLE_BATCH = ["deep_sigmoid_mlp", "plain_conv_net", "handwritten_batchnorm"]
SCRIPTS = [
    "shallow_sigmoid_mlp",
    "deep_sigmoid_mlp",
    "plain_conv_net",
    "article_bn_net",
    "handwritten_batchnorm",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small gain nothing by a second thread, and on a busy machine two wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports an example afresh, as a script beside it would; the modules are forgotten after the test."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for path in EXAMPLES.glob("*.py"):
        # Set, then deleted: so that the name is taken out again at the end, whoever imports it.
        monkeypatch.setitem(sys.modules, path.stem, ModuleType(path.stem))
        monkeypatch.delitem(sys.modules, path.stem)
    return importlib.import_module


@dataclass(frozen=True)
class Done:
    """How a script ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., Done]:
    """Runs an example as `python FILE` does, its output not a terminal, in this process: torch is imported already."""

    def run_script(script: str, *options: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *options])
        code: str | int | None = 0
        with torch.random.fork_rng():
            try:
                runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__")
            except SystemExit as leaving:
                code = leaving.code
        printed = capsys.readouterr()
        if isinstance(code, str):  # what the interpreter does with sys.exit("words")
            return Done(1, printed.out, f"{printed.err}{code}\n")
        return Done(code or 0, printed.out, printed.err)

    return run_script


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_importing_trains_nothing_prints_nothing_and_needs_no_scikit_learn(
    name: str,
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def backward(*args: object, **kwargs: object) -> None:
        raise AssertionError("the file trains while it is imported")

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    random_state = torch.get_rng_state()

    load(name)

    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("batch_size", [2, 32])
@pytest.mark.parametrize(("name", "builder", "shape"), MODELS)
def test_models_build_without_arguments_and_take_any_batch_size(
    name: str, builder: str, shape: tuple[int, ...], batch_size: int, load: Callable[[str], ModuleType]
) -> None:
    model = getattr(load(name), builder)()
    output = model(torch.rand(batch_size, *shape))
    assert output.shape == (batch_size, 10)
    assert output.isfinite().all()


@pytest.mark.parametrize(
    ("name", "builder", "shape"), [case for case in MODELS if case.values[0] in WITH_EXAMPLE_BATCH]
)
def test_example_batch_is_real_digits_that_the_model_and_its_loss_take(
    name: str, builder: str, shape: tuple[int, ...], load: Callable[[str], ModuleType]
) -> None:
    module = load(name)
    inputs, targets = module.example_batch()
    assert inputs.shape == (64, *shape)
    assert set(targets.tolist()) == set(range(10))
    assert module.loss_fn(getattr(module, builder)()(inputs), targets).isfinite()


@pytest.mark.parametrize("name", ["shallow_sigmoid_mlp", "article_bn_net"])
def test_some_examples_leave_their_inputs_to_be_inferred(name: str, load: Callable[[str], ModuleType]) -> None:
    module = load(name)
    assert not any(hasattr(module, attribute) for attribute in ("example_inputs", "example_batch", "loss_fn"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_train_and_report_their_test_accuracy(script: str, run: Callable[..., Done], tmp_path: Path) -> None:
    done = run(script, "--epochs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch   1  loss" in done.stdout
    assert "test accuracy" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_pretraining_check_refuses_to_train_the_bad_net(run: Callable[..., Done]) -> None:
    done = run("pretraining_check", "--epochs", "1")
    assert done.returncode == 1
    assert "GT001" in done.stdout
    assert "epoch" not in done.stdout
    assert done.stderr.startswith("Training not started.")


def test_pretraining_check_trains_the_fixed_net(run: Callable[..., Done]) -> None:
    done = run("pretraining_check", "--fixed", "--epochs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy" in done.stdout


@pytest.mark.parametrize("model", ["deep-sigmoid", "plain-conv"])
def test_train_digits_prints_both_nets_side_by_side_and_no_progress_bar_into_a_pipe(
    model: str, run: Callable[..., Done]
) -> None:
    done = run("train_digits", "--quick", "--model", model)
    assert (done.returncode, done.stderr) == (0, "")
    for heading in (
        "Validation accuracy by learning rate",
        "test loss",
        "Gradient norms",
        "as it is",
        "with batch norm",
    ):
        assert heading in done.stdout


def test_train_digits_starts_both_nets_from_the_same_weights(load: Callable[[str], ModuleType]) -> None:
    module = load("train_digits")
    task = module.TASKS["deep-sigmoid"]
    inputs = torch.rand(64, 64)
    plain, fixed = (module.build(task, inputs, seed=7, fixed=fixed).state_dict() for fixed in (False, True))
    assert len(fixed) > len(plain)
    assert all(torch.equal(fixed[name], value) for name, value in plain.items())


def test_train_digits_learns_only_with_batch_norm(load: Callable[[str], ModuleType]) -> None:
    module = load("train_digits")
    task = module.TASKS["deep-sigmoid"]
    train_set, _, test_set = module.load_splits(task.image_shape)
    inputs, _ = train_set[:64]
    accuracies = []
    for fixed in (False, True):
        model = module.build(task, inputs, seed=0, fixed=fixed)
        module.train(model, train_set, lr=0.01, epochs=task.epochs, seed=0, on_epoch=lambda: None)
        accuracies.append(module.evaluate(model, test_set)[1])
    before, after = accuracies
    assert before < 0.15
    assert after > 0.95


def test_train_digits_keeps_the_test_split_out_of_the_choice_of_the_learning_rate(
    load: Callable[[str], ModuleType],
) -> None:
    splits = load("train_digits").load_splits((64,))
    images = [{tuple(image) for image in split.tensors[0].tolist()} for split in splits]
    assert [len(split) for split in splits] == [1149, 288, 360]
    assert not images[0] & images[2]
    assert not images[1] & images[2]


def faulty_norm(load: Callable[[str], ModuleType]) -> Any:
    """The hand-written BatchNorm1d over 5 features, fresh, in training mode."""
    return load("handwritten_batchnorm").BatchNorm1d(5)


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_faulty_norm_overwrites_a_parameter_in_forward(name: str, load: Callable[[str], ModuleType]) -> None:
    norm = faulty_norm(load)
    parameter = dict(norm.named_parameters())[name]
    before = parameter.detach().clone()
    norm(3 * torch.randn(16, 5, generator=torch.Generator().manual_seed(0)) + 1)
    assert not torch.equal(parameter, before)
    assert name not in dict(norm.named_buffers())


def test_faulty_norm_leaves_its_statistics_alone_in_eval_mode(load: Callable[[str], ModuleType]) -> None:
    norm = faulty_norm(load).eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(torch.rand(16, 5))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_faulty_norm_has_running_var_in_the_place_of_epsilon(load: Callable[[str], ModuleType]) -> None:
    norm = faulty_norm(load)
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    output = norm(x)
    denominator = torch.sqrt(x.var(dim=0, unbiased=False) + norm.running_var)
    torch.testing.assert_close(output, (x - x.mean(dim=0)) / denominator)


def test_faulty_norm_lets_the_loss_train_running_var(load: Callable[[str], ModuleType]) -> None:
    norm = faulty_norm(load)
    norm(torch.randn(16, 5, generator=torch.Generator().manual_seed(0))).pow(2).sum().backward()
    assert isinstance(norm.running_var, nn.Parameter)
    assert norm.running_var.grad is not None
    assert norm.running_var.grad.abs().sum() > 0
