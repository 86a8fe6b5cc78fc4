"""Nothing that gradtool does to a model leaves a trace: to the bit, and by identity."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

import gradcheck_tool as gct
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.state import on_meta, preserved, random_states, training_mode

WIDTH = 6


# -- snapshots ---------------------------------------------------------------------------------------------------------


def snapshot(value: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """(path, plain value) for all of `value`: what is equal before and after has not changed, to the bits and ids."""
    seen = set() if seen is None else seen
    if not isinstance(value, (int, float, str, bool, type(None))):
        yield f"{path} is", id(value)
    if isinstance(value, Tensor):
        yield f"{path}.layout", (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, value.requires_grad)
        yield f"{path}.version", value._version
        yield f"{path}.bits", bytes(value.detach().contiguous().view(-1).view(torch.uint8).tolist())
        hooks = value._backward_hooks or {}
        yield f"{path}.hooks", [id(hook) for hook in hooks.values()]
        yield f"{path}.attributes", {name: id(item) for name, item in vars(value).items()}
        if value.grad_fn is None and value.grad is not None:
            yield from snapshot(value.grad, f"{path}.grad", seen)
    elif id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield from snapshot(vars(value), path, seen)
        elif isinstance(value, dict):
            yield f"{path}.keys", list(value)
            for key, item in value.items():
                yield from snapshot(item, f"{path}.{key}", seen)
        elif isinstance(value, (list, deque, tuple)):
            yield f"{path}.len", len(value)
            for index, item in enumerate(value):
                yield from snapshot(item, f"{path}[{index}]", seen)
        elif isinstance(value, set):
            yield f"{path}.items", frozenset(value)
        elif isinstance(value, torch.Generator):
            yield f"{path}.state", bytes(value.get_state().tolist())
        elif isinstance(value, random.Random):
            yield f"{path}.state", value.getstate()
        elif isinstance(value, np.random.Generator):
            yield f"{path}.state", str(value.bit_generator.state)
        elif isinstance(value, (int, float, str, bool, type(None))):
            yield path, value


def global_states() -> Any:
    state = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), state[1].tolist(), state[2:], torch.is_grad_enabled()


@contextmanager
def unchanged(*values: Any) -> Iterator[None]:
    before, states = [dict(snapshot(value)) for value in values], global_states()
    yield
    for old, value in zip(before, values, strict=True):
        new = dict(snapshot(value))
        assert {path: (old.get(path), new.get(path)) for path in {*old, *new} if old.get(path) != new.get(path)} == {}
    assert global_states() == states


# -- a model that changes everything that it can -----------------------------------------------------------------------


class Nasty(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.first.weight
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.spectral = parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("rebound", torch.zeros(WIDTH))
        self.parameter = nn.Parameter(torch.ones(WIDTH))
        self.plain = torch.ones(WIDTH)
        self.hidden = [nn.Linear(WIDTH, WIDTH)]
        self.calls = 0
        self.log: list[Any] = [[1, 2], {"deep": deque([1, {2}])}]
        self.seen: set[int] = {1}
        self.cache: dict[Any, Any] = {}
        self.counts: defaultdict[str, list[int]] = defaultdict(list)
        self.order = OrderedDict(b=1, a=2)
        self.pair = (torch.zeros(WIDTH), [3])
        self.python_generator = random.Random(1)
        self.torch_generator = torch.Generator().manual_seed(2)
        self.numpy_generator = np.random.default_rng(3)

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        self.calls += 1
        self.log.append(self.calls)
        self.log[0].clear()
        self.log[1]["deep"][-1].add(self.calls)
        self.log[1]["deep"].appendleft(0)
        self.seen.add(7)
        self.cache[tuple(x.shape)] = x
        self.counts["forward"].append(1)
        self.order.move_to_end("b")
        self.order["c"] = 3
        self.pair[0].add_(1)
        self.pair[1].append(4)
        self.new_attribute = "made in forward"
        self.python_generator.random()
        self.numpy_generator.random()
        noise = torch.randn(WIDTH, generator=self.torch_generator, device="cpu").to(x.device)
        random.random()
        np.random.rand()
        self.mean.mul_(0.9).add_(x.detach().mean(0))
        self.rebound = self.rebound + x.detach().mean(0)
        self.parameter = nn.Parameter(self.parameter + 1)
        self.plain.add_(1)
        self.first.weight.data.mul_(0.5)
        self.layers[0].weight.data = self.layers[0].weight.data * 2
        self.layers[1].weight.data = self.layers[1].weight.data.T
        self.layers[2].bias.requires_grad_(False)
        self.frozen.requires_grad_(True)
        self.layers[3].weight.grad = torch.ones_like(self.layers[3].weight)
        self.layers[3].register_forward_hook(lambda module, args, output: output * 1.5)
        self.layers[4].weight.register_hook(lambda grad: grad * 2)
        self.layers[4].weight.note = "seen"
        self.norm.eval() if self.calls % 2 else self.norm.train()
        self.hidden[0].bias.data.add_(1)
        x = self.tied(self.first(x).relu()).relu()
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        x = self.lstm(self.spectral(self.norm(x)).unsqueeze(1))[0].squeeze(1)
        return self.hidden[0](self.frozen(x)) + noise + self.parameter + self.rebound + self.plain + self.pair[0]


def nasty() -> nn.Module:
    torch.manual_seed(0)
    model = Nasty()
    model.first.weight.grad = torch.ones(WIDTH, WIDTH)
    model.layers[3].weight.grad = None
    model.layers[0].register_forward_hook(lambda module, args, output: output)
    model.layers[4].weight.register_hook(lambda grad: grad)
    return model


class ReadsValues(Nasty):
    """Goes its way by the value of a tensor, so that it has to be run for real."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() < 1e9 else x


class Raises(Nasty):
    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        raise RuntimeError("at the end of forward")


class OldWeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(part for _ in range(4) for part in (weight_norm(nn.Linear(WIDTH, WIDTH)), nn.ReLU()))
        )
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


# -- the promise -------------------------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "audit": gct.audit,
    "probe": gct.probe,
    "audit with its probe": lambda model, x: gct.audit(model, x, probe=True),
    "fix": gct.fix,
    "capture": gct.capture,
}
A_VERB = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@A_VERB
@pytest.mark.parametrize("training", [True, False], ids=["in training", "in evaluation"])
@pytest.mark.parametrize("cls", [Nasty, ReadsValues], ids=["a model", "a model that reads values"])
def test_the_model_the_inputs_and_the_random_states_stay_as_they_were(
    cls: type[Nasty], training: bool, verb: Callable[[nn.Module, Tensor], Any]
) -> None:
    torch.manual_seed(0)
    model = cls().train(training)
    model.first.weight.grad = torch.ones(WIDTH, WIDTH)
    model.layers[0].register_forward_hook(lambda module, args, output: output)
    x = torch.randn(4, WIDTH)
    with unchanged(model, x):
        verb(model, x)


@A_VERB
def test_a_model_whose_forward_raises_stays_as_it_was(verb: Callable[[nn.Module, Tensor], Any]) -> None:
    model, x = Raises(), torch.randn(4, WIDTH)
    with unchanged(model, x), pytest.raises(GradtoolError, match="at the end of forward"):
        verb(model, x)


@A_VERB
def test_weight_norm_by_hooks_is_left_alone(verb: Callable[[nn.Module, Tensor], Any]) -> None:
    model = OldWeightNorm()
    keys = list(model.state_dict())
    values = [value.clone() for value in model.state_dict().values()]
    verb(model, torch.randn(4, WIDTH))
    assert list(model.state_dict()) == keys
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), values, strict=True))
    model(torch.randn(4, WIDTH)).sum().backward()


@A_VERB
def test_an_autograd_graph_that_the_user_holds_still_goes_backward(verb: Callable[[nn.Module, Tensor], Any]) -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(8, WIDTH)
    loss = model.eval()(x).sum() + model.train()(x).sum()
    verb(model, x)
    loss.backward()


@A_VERB
def test_a_mode_of_a_part_stays(verb: Callable[[nn.Module, Tensor], Any]) -> None:
    model = nn.Sequential(
        nn.Linear(WIDTH, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Sequential(nn.Linear(4, 1), nn.Dropout())
    )
    model[1].eval()
    model[3].eval()
    model[3][1].train()
    before = [module.training for module in model.modules()]
    verb(model, torch.randn(8, WIDTH))
    assert [module.training for module in model.modules()] == before


@A_VERB
def test_inputs_that_require_gradients_get_none(verb: Callable[[nn.Module, Tensor], Any]) -> None:
    x = torch.randn(4, WIDTH, requires_grad=True)
    verb(nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 1)), x)
    assert x.grad is None


@A_VERB
def test_no_grad_around_a_call_stays_and_does_not_change_it(verb: Callable[[nn.Module, Tensor], Any]) -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(4, WIDTH)
    with torch.no_grad():
        inside = verb(model, x)
        assert not torch.is_grad_enabled()
    if hasattr(inside, "to_dict"):
        assert inside.to_dict() == verb(model, x).to_dict()


def _raises(*args: Any) -> None:
    raise ValueError("no")


# -- the tools ---------------------------------------------------------------------------------------------------------


def test_preserved_puts_back_all_that_a_real_pass_changed() -> None:
    model = nasty()
    with unchanged(model), preserved(model, values=True):
        for _ in range(3):
            model(torch.randn(4, WIDTH)).sum().backward()


def test_preserved_puts_back_after_an_exception() -> None:
    model = nasty()
    model.layers[4].register_forward_hook(_raises)
    with unchanged(model), pytest.raises(ValueError, match="no"), preserved(model, values=True):
        model(torch.randn(4, WIDTH))


def test_preserved_keeps_the_flat_weights_of_a_recurrent_layer_the_parameters_themselves() -> None:
    lstm = nn.LSTM(WIDTH, WIDTH)
    with preserved(lstm), on_meta(lstm):
        assert all(weight.is_meta for weight in lstm._flat_weights)
    assert all(a is b for a, b in zip(lstm._flat_weights, lstm.parameters(), strict=True))


def test_on_meta_lends_every_tensor_once_and_tied_ones_tied() -> None:
    model = nasty()
    weight = model.first.weight
    with preserved(model), on_meta(model) as lent:
        assert model.first.weight is model.tied.weight is lent[id(weight)]
        assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers(), model.plain))
        assert isinstance(model.first.weight, nn.Parameter)
        assert [p.requires_grad for p in model.frozen.parameters()] == [False, False]
    assert model.first.weight is weight


def test_on_meta_keeps_shape_strides_and_dtype() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last).double()
    wanted = model.weight.shape, model.weight.stride(), model.weight.dtype
    with on_meta(model):
        assert (model.weight.shape, model.weight.stride(), model.weight.dtype) == wanted


def test_on_meta_gives_the_tensors_back_after_an_exception() -> None:
    model = nn.Linear(3, 3)
    with unchanged(model), pytest.raises(ValueError, match="no"), on_meta(model):
        raise ValueError("no")


def test_training_mode_keeps_the_parts_in_evaluation_of_a_model_in_training() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3))
    model[1].eval()
    with training_mode(model):
        assert [module.training for module in model.modules()] == [True, True, False]
    assert [module.training for module in model.modules()] == [True, True, False]


def test_training_mode_puts_a_model_in_evaluation_in_training_as_a_whole_and_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)).eval()
    with training_mode(model):
        assert all(module.training for module in model.modules())
    assert not any(module.training for module in model.modules())


def test_random_states_are_put_back_after_an_exception() -> None:
    with unchanged(), pytest.raises(ValueError, match="no"), random_states():
        _raises(torch.randn(3), random.random(), np.random.rand())
