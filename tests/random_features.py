"""What a model has, read off its modules and off one run: which calls follow each other, meet, share, alias or write.

Nothing here asks gradtool, whose own answers are what the random models are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

FEATURES = (
    "chain", "branch", "join", "shared layer", "functional layer", "odd shape", "float64", "float32", "bfloat16",
    "train and eval mixed", "frozen part", "hook", "parametrization", "buffer", "in-place op", "view",
)  # fmt: skip
"""What at least one model in twenty has to have, each."""

_WEIGHT = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_PRODUCTS = ("matmul", "__matmul__", "addmm", "einsum")
_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
_JOINS = (
    "add",
    "__add__",
    "__iadd__",
    "add_",
    "mul",
    "__mul__",
    "cat",
    "stack",
    "matmul",
    "scaled_dot_product_attention",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


class _Watch(TorchFunctionMode):
    """Notes for each tensor that depends on the input how many weight layers lie behind it since the last norm."""

    def __init__(self, inputs: tuple[Tensor, ...], parameters: set[int]) -> None:
        super().__init__()
        self.depth = {id(tensor): 0 for tensor in inputs}
        self.kept: list[Tensor] = list(inputs)
        self.parameters = parameters
        self.inside = 0  # of how many of torch's own layers
        self.into: dict[int, int] = {}  # how many weight layers a tensor goes into
        self.found: set[str] = set()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        data = [tensor for tensor in given if id(tensor) in self.depth]
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if data:
            self.note(name, data, given, list(_tensors(result)), kwargs)
        return result

    def note(self, name: str, data: list[Tensor], given: list[Tensor], made: list[Tensor], kwargs: Any) -> None:
        depth = min(self.depth[id(tensor)] for tensor in data)
        weights = [tensor for tensor in given if id(tensor) in self.parameters]
        if name in _WEIGHT or (name in _PRODUCTS and weights):
            depth += 1
            self.into[id(data[0])] = self.into.get(id(data[0]), 0) + 1
            if self.into[id(data[0])] > 1:
                self.found.add("branch")
            if not self.inside:
                self.found.add("functional layer")
            if depth > 3:
                self.found.add("chain")
        if name in _NORMS:
            depth = 0
        if name in _JOINS and len({id(tensor) for tensor in data}) > 1:
            self.found.add("join")
        if (
            (name.endswith("_") and not name.endswith("__"))
            or name in ("__iadd__", "__setitem__")
            or kwargs.get("inplace")
        ):
            self.found.add("in-place op")
        for tensor in made:
            # Inside of a layer, F.linear and the like make views of their own.
            if not self.inside and any(tensor is not other and _same_storage(tensor, other) for other in data):
                self.found.add("view")
            self.depth[id(tensor)] = depth
            self.kept.append(tensor)


def _same_storage(tensor: Tensor, other: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


@contextmanager
def _layers_watched(watch: _Watch, calls: dict[nn.Module, int]) -> Iterator[None]:
    def own(module: nn.Module) -> bool:
        return type(module).__module__.startswith("torch.nn.modules") and not list(module.children())

    def before(module: nn.Module, args: Any) -> None:
        watch.inside += own(module)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        watch.inside -= own(module)
        calls[module] = calls.get(module, 0) + 1

    handles = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_modules(model: nn.Module) -> Iterator[str]:
    dtype = next(model.parameters()).dtype
    yield str(dtype).removeprefix("torch.")
    modules = list(model.modules())
    if len({module.training for module in modules}) == 2:
        yield "train and eval mixed"
    if not all(parameter.requires_grad for parameter in model.parameters()):
        yield "frozen part"
    old = [
        hook
        for module in modules
        for hook in module._forward_pre_hooks.values()
        if type(hook).__module__.startswith("torch.nn.utils")
    ]
    if sum(len(getattr(module, hooks)) for module in modules for hooks in _HOOKS) > len(old):
        yield "hook"
    if any(parameter._backward_hooks for parameter in model.parameters()):
        yield "hook"
    if old or any(parametrize.is_parametrized(module) for module in modules):
        yield "parametrization"
    if any(module._buffers for module in modules if not type(module).__module__.startswith("torch.")):
        yield "buffer"


def features(model: nn.Module, inputs: tuple[Tensor, ...]) -> frozenset[str]:
    """The features of `model`, whose forward is run; it is used up."""
    found = set(_by_modules(model))
    parameters = {id(parameter) for parameter in model.parameters()}
    calls: dict[nn.Module, int] = {}
    watch = _Watch(inputs, parameters)
    with _layers_watched(watch, calls), watch:
        model(*inputs)
    names = [id(p) for module in model.modules() for p in module._parameters.values() if p is not None]
    shared = any(count > 1 and list(module.parameters(recurse=False)) for module, count in calls.items())
    if shared or len(names) > len(set(names)):
        found.add("shared layer")
    size = inputs[0].shape[1:]
    if any(length % 2 for length in size) or len(set(size)) > 1:
        found.add("odd shape")
    return frozenset(found | watch.found)
