"""A captured graph computes what the model computes: in both modes, at any batch size, copied, pickled and exported."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models_to_replay import MODELS, WIDTH, Batch, Case, features, function_of_layer, sequences
from torch import Tensor, fx, nn

import gradcheck_tool as gct
from gradcheck_tool.capturing import capture
from gradcheck_tool.capturing.recorder import record
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs import for_model
from gradcheck_tool.structures import map_tensors, tensors_in

EVERY_MODEL = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS)


def call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if type(inputs) is tuple else model(inputs)


def built(case: Case) -> nn.Module:
    """The model of a case; each time the same."""
    torch.manual_seed(0)
    return case[0]()


def run(model: nn.Module, inputs: Any, training: bool) -> tuple[Any, list[Tensor | None], list[Tensor]]:
    """Output, gradients of the floating inputs and of the parameters, and buffers afterwards; the model is used up."""
    model.train(training)
    inputs = map_tensors(inputs, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about nested tensors, checkpoints and complex numbers
        torch.manual_seed(1)
        output = call(model, inputs)
        torch.manual_seed(2)
        roots = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
        torch.autograd.backward(roots, [torch.randn_like(root) for root in roots])
    leaves = [tensor for tensor in (*tensors_in(inputs), *model.parameters()) if tensor.requires_grad]
    return output, [leaf.grad for leaf in leaves], list(model.buffers())


def same_tensors(found: Sequence[Tensor | None], wanted: Sequence[Tensor | None]) -> bool:
    return len(found) == len(wanted) and all(
        a is b if a is None or b is None else a.dtype == b.dtype and torch.equal(a, b)
        for a, b in zip(found, wanted, strict=True)
    )


def assert_same_run(graph: nn.Module, model: nn.Module, inputs: Any, training: bool) -> None:
    output, grads, buffers = run(graph, inputs, training)
    wanted, wanted_grads, wanted_buffers = run(model, inputs, training)
    assert type(output) is type(wanted)
    assert same_tensors(list(tensors_in(output)), list(tensors_in(wanted))), "the outputs differ"
    assert [grad is None for grad in grads] == [grad is None for grad in wanted_grads]
    for grad, wanted_grad in zip(grads, wanted_grads, strict=True):  # several uses of a parameter add up in any order
        torch.testing.assert_close(grad, wanted_grad, rtol=1e-5, atol=1e-6)
    assert same_tensors(buffers[: len(wanted_buffers)], wanted_buffers), "the buffers differ"


@cache
def _captured_once(case: Case) -> fx.GraphModule:
    model = built(case)
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gct.capture(model, case[1](3))


def captured(case: Case) -> fx.GraphModule:
    """A capture of the model of a case, on a batch of three, for the caller alone."""
    return copy.deepcopy(_captured_once(case))


@pytest.mark.parametrize("training", [True, False], ids=["in training", "in evaluation"])
@EVERY_MODEL
def test_a_capture_gives_outputs_gradients_and_buffers_of_the_model_at_any_batch_size(
    case: Case, training: bool
) -> None:
    graph = captured(case)
    for batch in (3, 4, 7):
        torch.manual_seed(batch)
        assert_same_run(copy.deepcopy(graph), built(case), case[1](batch), training)


@EVERY_MODEL
def test_a_capture_keeps_the_state_dict_key_by_key(case: Case) -> None:
    model = built(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = gct.capture(model, case[1](3))
    wanted = model.state_dict()
    assert list(graph.state_dict()) == list(wanted)
    assert all(graph.state_dict()[key].data_ptr() == value.data_ptr() for key, value in wanted.items())


PARAMETRIZED = {
    "weight norm, spectral norm and parametrizations, old and new",
    "a parametrized parameter of a module of the user's own",
}


@pytest.mark.parametrize("sentence", [sentence for sentence in MODELS if sentence not in PARAMETRIZED])
def test_a_capture_survives_pickling(sentence: str) -> None:  # torch lets nobody pickle what is parametrized
    case = MODELS[sentence]
    graph = pickle.loads(pickle.dumps(captured(case)))
    for training in (True, False):
        torch.manual_seed(4)
        assert_same_run(copy.deepcopy(graph), built(case), case[1](4), training)


@EVERY_MODEL
def test_every_node_that_computes_says_where_it_stands_and_what_shape_it_has(case: Case) -> None:
    graph = captured(case)
    graph.graph.lint()
    for node in graph.graph.nodes:
        if node.op == "call_module" or (node.op == "call_method" and node.target in ("relu", "tanh", "add", "mul")):
            assert "location" in node.meta
            if "shape" in node.meta:  # not where a layer returns several tensors: those are in the getitem nodes
                assert isinstance(node.meta["dtype"], torch.dtype)


# -- the module --------------------------------------------------------------------------------------------------------

CONV_NET = MODELS["a conv net with batch norm, pooling and dropout"]
AUX = MODELS["an auxiliary head in training only"]
FUNCTIONAL_DROPOUT = MODELS["F.dropout that follows the mode"]


@pytest.mark.parametrize("case", [CONV_NET, AUX], ids=["one graph for both modes", "one graph for each mode"])
def test_a_deep_copy_shares_nothing_with_the_original(case: Case) -> None:
    graph = captured(case)
    before = {key: value.clone() for key, value in graph.state_dict().items()}
    twin = copy.deepcopy(graph)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
    twin.eval()
    assert graph.training
    assert all(torch.equal(value, before[key]) for key, value in graph.state_dict().items())


def test_the_mode_is_followed_by_layers_by_functions_and_by_structure() -> None:
    x = torch.randn(4, WIDTH)
    dropout = captured(FUNCTIONAL_DROPOUT)
    assert not torch.equal(dropout(x), dropout(x))
    dropout.eval()
    assert torch.equal(dropout(x), dropout(x))
    aux = captured(AUX)
    assert isinstance(aux.train()(x), tuple)
    assert isinstance(aux.eval()(x), Tensor)


def test_parts_that_stay_in_evaluation_mode_stay_so() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[1].eval()
    graph = gct.capture(model, features(3))
    assert [graph.training, graph.get_submodule("1").training] == [True, False]
    graph(features(5))
    assert not graph.get_submodule("1").running_mean.any()
    assert graph.get_submodule("4").running_mean.any()


def test_a_model_in_evaluation_mode_gives_a_capture_in_evaluation_mode() -> None:
    model = built(CONV_NET).eval()
    graph = gct.capture(model, CONV_NET[1](3))
    assert not graph.training
    assert not any(module.training for module in graph.modules())
    assert_same_run(copy.deepcopy(graph), built(CONV_NET), CONV_NET[1](4), True)


def test_a_capture_can_change_its_dtype() -> None:
    graph = captured(MODELS["nested containers of modules"]).to(torch.float64)
    model = built(MODELS["nested containers of modules"]).to(torch.float64)
    x = features(5).double()
    assert torch.equal(graph(x), model(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_capture_can_move_to_another_device() -> None:
    graph = captured(MODELS["tensors made to measure"]).to("cuda")
    assert graph(features(4).cuda()).device.type == "cuda"


@pytest.mark.parametrize(
    "sentence",
    [
        "a conv net with batch norm, pooling and dropout",
        "flattening by view and back",
        "a transformer encoder of torch.nn",
        "buffers updated in forward",
        "an auxiliary head in training only",
        "tensors made to measure",
    ],
)
def test_a_capture_exports_with_a_free_batch(sentence: str) -> None:
    case = MODELS[sentence]
    graph = captured(case).eval()
    torch.manual_seed(3)
    x = case[1](4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
    other = case[1](9)
    wanted = list(tensors_in(built(case).eval()(other)))
    assert all(torch.allclose(a, b) for a, b in zip(tensors_in(program.module()(other)), wanted, strict=True))


def test_a_capture_unpickles_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "their_model.py").write_text(
        textwrap.dedent("""
        import torch, torch.nn.functional as F
        from torch import nn

        class Gate(nn.Module):
            def forward(self, x):
                return x * torch.sigmoid(x)

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.gate = nn.Linear(6, 6), Gate()
                self.linear.register_forward_hook(doubles)

            def forward(self, x):
                x = F.dropout(self.gate(self.linear(x)), 0.5, self.training)
                return x.view(x.size(0), 2, 3) if self.training else x.view(-1)

        def doubles(module, args, output):
            return 2 * output
        """)
    )
    (tmp_path / "save.py").write_text(
        textwrap.dedent("""
        import torch, gradcheck_tool as gct
        from their_model import Net
        torch.manual_seed(0)
        model = Net()
        torch.save(gct.capture(model, torch.randn(4, 6)), "graph.pt")
        torch.manual_seed(1)
        x = torch.randn(5, 6)
        torch.save((x, model(x), model.eval()(x)), "outputs.pt")
        """)
    )
    (tmp_path / "load.py").write_text(
        textwrap.dedent("""
        import torch
        graph = torch.load("graph.pt", weights_only=False)
        x, training, evaluation = torch.load("outputs.pt", weights_only=True)
        torch.manual_seed(1)
        torch.randn(5, 6)
        assert torch.equal(graph(x), training)
        assert torch.equal(graph.eval()(x), evaluation)
        """)
    )
    for script in ("save.py", "load.py"):
        done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["in", "lambda", "class", 'we"ird', "with space", "ünïcode", "forward_"])
def test_a_submodule_may_have_any_name(name: str) -> None:
    model = nn.Sequential()
    model.add_module(name, nn.Linear(WIDTH, 4))
    model.add_module(name + "_more", nn.Linear(4, 2))
    x = features(3)
    assert torch.equal(copy.deepcopy(gct.capture(model, x))(x), model(x))


# -- the batch size ----------------------------------------------------------------------------------------------------


def of_function(forward: Callable[[nn.Module, Tensor], Any], width: int = WIDTH) -> nn.Module:
    """A model that applies `forward(module, x)` to the output of its layer `linear`."""
    name = f"{forward.__name__} at {id(forward)}"
    function_of_layer(name, width=width)(forward)
    return MODELS.pop(name)[0]()


@pytest.mark.parametrize("example", [1, 2, 3, 8], ids="an example of {}".format)
@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: x[: x.size(0) // 2].sum() + x[x.size(0) // 2 :].relu().mean(),
        lambda net, x: (x @ x.T).reshape(x.size(0) * x.size(0)).relu(),
        lambda net, x: (x @ x.T).flatten()[1 : x.size(0) * (x.size(0) - 1) // 2].sum(),
        lambda net, x: torch.cat([x, x.new_zeros(1, x.size(1))]).reshape((x.size(0) + 1) * x.size(1)),
        lambda net, x: x.view(3 * x.size(0), -1).repeat(2, 1)[: 6 * len(x) - 1],
        lambda net, x: x * (1 / x.size(0)) + x.numel() ** 0.5,
        lambda net, x: torch.arange(x.size(0) + 1).float().diff()[:, None] * x,
        lambda net, x: torch.cat([x, x])[torch.arange(2 * x.size(0) - 1, -1, -1)],
    ],
    ids=[
        "half of it",
        "its square",
        "its pairs",
        "one more",
        "a multiple, less one",
        "fractions",
        "ranges",
        "reversed",
    ],
)
def test_a_capture_follows_numbers_that_depend_on_the_batch_size(
    forward: Callable[[nn.Module, Tensor], Any], example: int
) -> None:
    model = of_function(forward)
    graph = gct.capture(model, features(example))
    for batch in (2, 5, 12, 13):
        x = features(batch)
        torch.testing.assert_close(graph(x), model(x))


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: torch.stack([net.linear(row) for row in x]),
        lambda net, x: x * torch.tensor(np.arange(x.size(0), dtype=np.float32))[:, None],
        lambda net, x: x * 2 ** x.size(0),
    ],
    ids=["a loop over the samples", "numpy values, one a sample", "a power of two"],
)
def test_a_graph_for_one_batch_size_refuses_another(forward: Callable[[nn.Module, Tensor], Any]) -> None:
    model = of_function(forward)
    graph = gct.capture(model, features(3))
    x = features(3)
    assert torch.equal(graph(x), model(x))
    with pytest.raises(ValueError, match="captured with batch_size=3 and does not hold for batch_size=5"):
        graph(features(5))


def test_a_model_that_takes_one_sample_only_is_captured_so() -> None:
    model = of_function(lambda net, x: x.reshape(WIDTH).softmax(0))
    graph = gct.capture(model, features(1))
    x = features(1)
    assert torch.equal(graph(x), model(x))


def test_a_batch_beside_an_input_without_one_is_free() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return self.linear(x).view(x.size(0) * WIDTH, 1) + table.sum()

    model = Net()
    graph = gct.capture(model, (features(3), features(9)))
    inputs = features(5), features(9)
    assert torch.equal(graph(*inputs), model(*inputs))


# -- arguments ---------------------------------------------------------------------------------------------------------


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, flag: bool = True, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        x = self.linear(x)
        x = x.relu() if flag else x.tanh()
        return scale * (x if mask is None else x * mask)


def test_arguments_that_were_left_out_can_be_given_as_their_defaults() -> None:
    model = Optional()
    graph = gct.capture(model, features(3))
    x = features(5)
    assert torch.equal(graph(x, True, None), model(x))
    assert torch.equal(graph(x, mask=None, scale=1.0), model(x))


@pytest.mark.parametrize(
    "other", [{"flag": False}, {"mask": torch.ones(2)}, {"scale": 2.0}], ids=["a flag", "a tensor for None", "a number"]
)
def test_an_argument_that_the_graph_was_not_recorded_with_is_refused(other: dict[str, Any]) -> None:
    graph = gct.capture(Optional(), {"x": features(3), "flag": True})
    with pytest.raises(ValueError, match=f"does not hold for {next(iter(other))}="):
        graph(features(3), **{"flag": True} | other)


def test_the_fields_of_a_dataclass_may_change_and_the_numbers_in_it_are_constants() -> None:
    case = MODELS["a dataclass in and out"]
    graph = captured(case)
    batch = Batch(features(4), torch.rand(4, 1))
    assert torch.equal(graph(batch).logits, built(case)(batch).logits)


# -- what steers a model -----------------------------------------------------------------------------------------------


def branches(net: nn.Module, x: Tensor) -> Tensor:
    return x.relu() if x.abs().sum() > 0 else x


def scales(net: nn.Module, x: Tensor) -> Tensor:
    return x / (1 + 0 * x.abs().max().item())


def asserts(net: nn.Module, x: Tensor) -> Tensor:
    assert torch.isfinite(x).all()
    return x


def lists(net: nn.Module, x: Tensor) -> Tensor:
    return x * sum(torch.ones(3).tolist())


def through_numpy(net: nn.Module, x: Tensor) -> Tensor:
    return x + torch.from_numpy(x.detach().numpy().mean(0) * 0)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (branches, "the value of a tensor is read by __bool__"),
        (scales, "the value of a tensor is read by item"),
        (asserts, "the value of a tensor is read by __bool__"),
        (lists, "the value of a tensor is read by tolist"),
        (through_numpy, "the value of a tensor is read by numpy"),
    ],
    ids=["if", "item()", "assert", "tolist()", "numpy()"],
)
def test_a_model_that_reads_values_is_run_for_real_and_the_place_is_named(
    forward: Callable[[nn.Module, Tensor], Tensor], reason: str
) -> None:
    model = of_function(forward)
    report = gct.audit(model, features(3))
    assert report.capture.device == "cpu"
    line = forward.__code__.co_firstlineno + 1
    places = {(one.reason, Path(one.file or "").name, one.line) for one in report.capture.specialized}
    assert (reason, Path(__file__).name, line) in places
    x = features(3)
    assert torch.equal(gct.capture(model, x)(x), model(x))


def test_a_model_that_reads_nothing_runs_on_meta_alone() -> None:
    report = gct.audit(built(CONV_NET), CONV_NET[1](3))
    assert (report.capture.device, report.capture.specialized) == ("meta", ())


def test_a_tensor_made_out_of_sight_is_refused_and_not_made_a_constant() -> None:
    model = of_function(lambda net, x: torch.vmap(lambda row: row.relu() * net.linear.weight.sum())(x) * 2)
    with pytest.raises(GradtoolError, match=r"a tensor \(3x6\) was made by torch.func out of sight") as caught:
        gct.capture(model, features(3))
    assert Path(caught.value.file or "").name == Path(__file__).name
    assert gct.audit(model, features(3)).capture.specialized


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x.relu() * 2


def test_scripted_functions_and_modules_are_one_node_with_their_own_gradient() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)
            self.body = torch.jit.script(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))

        def forward(self, x: Tensor) -> Tensor:
            return scripted(self.body(self.linear(x)))

    def built() -> nn.Module:  # torch's own deep copy of a scripted module has parameters that get no gradient
        torch.manual_seed(0)
        return Net()

    graph = gct.capture(built(), features(3))
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["linear", "body"]
    assert_same_run(copy.deepcopy(graph), built(), features(5), True)


def test_a_hook_on_a_tensor_is_set_again() -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda grad: 3 * grad)
        return x.relu()

    model = of_function(forward)
    assert_same_run(copy.deepcopy(gct.capture(model, features(3))), copy.deepcopy(model), features(4), True)


class Rebinds(nn.Module):
    """Statistics that forward computes anew and binds, as hand-written batch norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("buffer", torch.zeros(WIDTH))
        self.parameter = nn.Parameter(torch.zeros(WIDTH))
        self.plain = torch.zeros(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        mean = x.detach().mean(0)
        if self.training:
            self.buffer = 0.9 * self.buffer + 0.1 * mean
            self.plain = 0.5 * self.plain + mean
            self.parameter = nn.Parameter(0.8 * self.parameter + mean)
        return x - self.buffer - self.plain * self.parameter


@pytest.mark.parametrize("inner", [False, True], ids=["of the model itself", "of a module in it"])
def test_tensors_that_forward_binds_to_attributes_are_bound_again(inner: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Rebinds(), nn.Tanh()) if inner else Rebinds()
    graph = copy.deepcopy(gct.capture(model, features(3)))
    for training in (True, True, False):
        x = features(5)
        assert torch.equal(graph.train(training)(x), model.train(training)(x))
    assert same_tensors(list(graph.state_dict().values()), list(model.state_dict().values()))


def test_unregistered_parameters_in_a_list_are_shared_and_get_their_gradient() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)
            self.hidden = [nn.Parameter(torch.ones(WIDTH))]

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) * self.hidden[0]

    model = Net()
    gct.capture(model, features(3))(features(4)).sum().backward()
    assert model.hidden[0].grad is not None


def test_an_exception_in_forward_names_the_place_and_the_inputs() -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        return x @ torch.ones(5)

    with pytest.raises(
        GradtoolError, match=r"forward of Forward raised RuntimeError.*called with x=3x6:float32"
    ) as caught:
        gct.capture(of_function(forward), features(3))
    assert caught.value.line == forward.__code__.co_firstlineno + 1


def test_recording_is_undone_when_forward_raises() -> None:
    before = [nn.Module.__call__, nn.Module.__setattr__, nn.Module.register_parameter, nn.Parameter.__new__]
    autocast = torch.autocast.__enter__, torch.autocast.__exit__
    with pytest.raises(GradtoolError):
        gct.capture(of_function(lambda net, x: x @ torch.ones(5)), features(3))
    assert before == [nn.Module.__call__, nn.Module.__setattr__, nn.Module.register_parameter, nn.Parameter.__new__]
    assert autocast == (torch.autocast.__enter__, torch.autocast.__exit__)
    assert torch.equal(scripted(torch.ones(2)), torch.full((2,), 2.0))


def test_packed_sequences_go_through_a_recurrent_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(WIDTH, 4, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out, _ = self.lstm(packed)
            return nn.utils.rnn.pad_packed_sequence(out, batch_first=True)[0]

    model = Net()
    lengths = torch.tensor([5, 2, 3])
    graph = gct.capture(model, (sequences(3), lengths))
    x = sequences(3)
    assert torch.equal(graph(x, lengths), model(x, lengths))


def test_the_replay_of_a_capture_can_be_captured() -> None:
    graph = captured(CONV_NET)
    again = gct.capture(graph, CONV_NET[1](3))
    assert list(again.state_dict()) == list(graph.state_dict())
    assert_same_run(copy.deepcopy(again), built(CONV_NET), CONV_NET[1](5), True)
    assert F.mse_loss(copy.deepcopy(again).eval()(CONV_NET[1](2)), torch.zeros(2, 2)).isfinite()


def test_what_an_observer_computes_is_no_part_of_the_recording() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    plain, _ = record(model, (x,), {})
    watched, _ = record(model, (x,), {}, observer=lambda _node, tensor: torch.isfinite(tensor * 2).all())
    assert [node.name for node in watched.graph.nodes] == [node.name for node in plain.graph.nodes]


class DropsOut(nn.Module):
    """Dropout as a function, which follows the mode of the part that calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, self.training)


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(lambda model: model, id="as it stood"),
        pytest.param(lambda model: model.train(), id="all in training"),
        pytest.param(lambda model: model.eval(), id="all in evaluation"),
        pytest.param(lambda model: model.train().get_submodule("1").eval(), id="another part in evaluation"),
    ],
)
def test_a_part_that_stood_in_another_mode_follows_its_own(then: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(DropsOut(), DropsOut()).train()
    model[0].eval()
    graph = copy.deepcopy(gct.capture(model, features(3)))
    for one in (graph, model):
        then(one)
    x, outputs = features(5), []
    for one in (graph, model):
        torch.manual_seed(1)
        outputs.append(one(x))
    assert torch.equal(*outputs)


class FirstCallCounts(nn.Module):
    """Adds something to what it returns, but not the first time; `whole` says whether it looks at the batch size."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.fc, self.whole, self.called = nn.Linear(6, 6), whole, False

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x).relu()
        x = x if self.whole or len(x) == 3 else x * 2
        x, self.called = (x + 1 if self.called else x), True
        return x


@pytest.mark.parametrize("whole", [True, False], ids=["at any batch size", "at one batch size only"])
def test_what_a_second_call_does_otherwise_is_told(whole: bool) -> None:
    model = FirstCallCounts(whole)
    _, steered = capture(model, for_model(model, features(3)))
    told = [one.reason for one in steered if one.reason.startswith("a second call does otherwise")]
    assert len(told) == 1
    assert any("batch size" in one.reason for one in steered) != whole
