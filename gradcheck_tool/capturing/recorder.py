"""Runs a model once and writes the torch.fx graph of what ran.

A `TorchFunctionMode` sees every torch function and method; calls of torch's own layers become `call_module` nodes;
tensors are mapped to nodes by identity, kept alive meanwhile. Every node carries in `meta`: `shape`, `dtype` and
`requires_grad` of its tensor (where it is one), and `where`, the point in the source (`sources.locate` reads it).
"""

from __future__ import annotations

import inspect
import random
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

from gradcheck_tool.capturing.interception import intercepted
from gradcheck_tool.capturing.operations import HOOKS, VALUE_READS, Operation, constructors, operation
from gradcheck_tool.sources import Where, caller
from gradcheck_tool.structures import holds_tensor, parts

Observer = Callable[[fx.Node, Tensor], None]
"""Is shown each node and its tensor at the moment at which it was computed."""

_META = torch.device("meta")
_transform_level = torch._C._functorch.peek_interpreter_stack
_SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_TORCH_CONSTANTS = (torch.dtype, torch.device, torch.layout, torch.memory_format)
_LITERALS = (fx.Node, int, float, complex, bool, str, type(None), type(...), *_TORCH_CONSTANTS)


class ValueRead(Exception):
    """The model reads values while there are none (on meta), or uses a tensor whose origin was not seen there."""


@dataclass(frozen=True)
class Steering:
    """A value, or a drawn number, on which the model's way through Python may have depended."""

    reason: str
    where: Where | None


@dataclass(frozen=True)
class Recording:
    """What one run left behind.

    `constants` are the objects and tensors that the graph refers to by an attribute of its own; `bound` the names of
    the parameters that forward bound to a new tensor, and where.
    """

    graph: fx.Graph
    device: str
    constants: Mapping[str, Any]
    steered: tuple[Steering, ...]
    bound: Mapping[str, Where | None]


def is_leaf(module: nn.Module) -> bool:
    """Whether a call of `module` is one node: torch's own layers are, unless they hold layers themselves."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if not type(module).__module__.startswith(("torch.nn.", "torch.ao.nn.")) or isinstance(module, _SEQUENCES):
        return False
    return all(name == "parametrizations" for name in module._modules)


class Recorder(TorchFunctionMode):
    """Writes the graph of what runs under it, in the thread that made it. Use through `record`."""

    def __init__(self, root: nn.Module, on_meta: bool, observer: Observer | None) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, Any] = {}
        self.steered: list[Steering] = []
        self.bound: dict[str, Where | None] = {}
        self._root = root
        self._on_meta = on_meta
        self._observer = observer
        self._paused = False
        self._unseen: str | None = None
        self._thread = threading.get_ident()
        self._nodes: dict[int, fx.Node] = {}
        self._kept: list[Any] = []
        self._modules = {id(module): name for name, module in root.named_modules()}
        self._registered = {id(tensor): name for name, tensor in _own_tensors(root)}
        self._first_input: fx.Node | None = None
        self._device_node: fx.Node | None = None

    # -- what is recorded ---------------------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """False inside a leaf, in threads that the model starts, and inside torch.func's transforms (vmap, grad), whose
        tensors have no life outside of them."""
        if self._paused or threading.get_ident() != self._thread:
            return False
        if _transform_level() is not None:
            self._unseen = "torch.func"
            return False
        return True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.listening:
            return func(*args, **kwargs)
        if self._on_meta and func in constructors() and kwargs.get("device") != _META:
            result = func(*args, **(kwargs | {"device": _META}))
        else:
            result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in VALUE_READS:
            self.steered.append(Steering(f"the value of a tensor is read by {name}", self._where()))
        acts = name in HOOKS or (result is None and name != "__get__" and holds_tensor(args))  # x[0] = y, x.data = y
        if holds_tensor(result) or acts or func is torch._C._set_grad_enabled:
            made = operation(func, args, kwargs)
            self._add(*(made or self._call_of(func, "__call__", args, kwargs)), result)
        return result

    def call_leaf(
        self, module: nn.Module, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs a leaf module and records it as one node."""
        self._paused = True
        try:
            result = run(module, *args, **kwargs)
        finally:
            self._paused = False
        self._add("call_module", self._modules[id(module)], args, kwargs, result)
        return result

    def takes(self, module: nn.Module) -> bool:
        """Whether a call of `module` is to be recorded as one node."""
        return self.listening and module is not self._root and id(module) in self._modules and is_leaf(module)

    def call_function_class(
        self, cls: type, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs `cls.apply` of a custom autograd function: one opaque node, so that its own backward survives."""
        if cls is CheckpointFunction:
            return args[0](*args[2:])  # (run_function, preserve_rng_state, *args): what is recomputed is what runs
        return self.call_opaque(cls, "apply", run, args, kwargs)

    def call_opaque(
        self, owner: Any, method: str, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs what is `owner.method(*args, **kwargs)` and records it as one node, without looking inside."""
        self._paused = True
        try:
            result = run(*args, **kwargs)
        finally:
            self._paused = False
        self._add(*self._call_of(owner, method, args, kwargs), result)
        return result

    def _call_of(self, owner: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation:
        return "call_method", method, (self._constant(owner, "function"), *args), kwargs

    def side_effect(self, function: Callable[..., Any], args: tuple[Any, ...]) -> fx.Node:
        """Records a call that has no tensor in it."""
        return self.graph.create_node("call_function", function, args)

    def note_assignment(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Records that forward binds a tensor that it computed to an attribute: `self.running_mean = 0.9 * …`."""
        owner = self._modules.get(id(module))
        registries = (module._parameters, module._buffers, module.__dict__)
        if owner is None or id(value) not in self._nodes or any(own.get(name) is value for own in registries):
            return
        holder = self.graph.create_node("get_attr", owner or "itself")
        self._add("call_function", setattr, (holder, name, value), {}, None)

    def note_parameter(self, parameter: nn.Parameter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records that forward makes a parameter."""
        self._add("call_function", nn.Parameter, args, kwargs, parameter)

    def note_binding(self, module: nn.Module, name: str) -> None:
        """Notes that forward binds a parameter: `self.running_mean = nn.Parameter(…)`."""
        owner = self._modules.get(id(module))
        if owner is not None:
            self.bound[f"{owner}.{name}" if owner else name] = caller(sys._getframe(2), record.__code__)

    # -- inputs and outputs -------------------------------------------------------------------------------------------

    def bind_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Makes a placeholder for each argument given, named as forward names it, and maps the tensors in them."""
        bound = inspect.signature(self._root.forward).bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
            self._bind(self.graph.create_node("placeholder", stars.get(kind, "") + name, name=name), value)

    def _bind(self, node: fx.Node, value: Any) -> None:
        if isinstance(value, Tensor):
            if id(value) not in self._nodes:
                self._learn(value, node)
                self._first_input = self._first_input or node
            return
        for access, key, part in parts(value):
            if holds_tensor(part):
                self._bind(self.graph.create_node("call_function", access, (node, key)), part)

    def output(self, value: Any) -> None:
        """Ends the graph with what the model returned, in the model's own structure."""
        self.graph.output(self._rebuild(value))

    def _rebuild(self, value: Any) -> Any:
        """`value` as an argument of a node; structures that fx does not know are constructed by a node of their own."""
        make = self.graph.call_function
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return make(type(value), tuple(self._rebuild(part) for part in value))
        if isinstance(value, OrderedDict) and type(value) is OrderedDict:
            return make(OrderedDict, ([(key, self._rebuild(part)) for key, part in value.items()],))
        if isinstance(value, Mapping) and type(value) is not dict:
            return make(type(value), (), {key: self._rebuild(part) for key, part in value.items()})
        if is_dataclass(value) and not isinstance(value, type):
            return make(
                type(value), (), {f.name: self._rebuild(getattr(value, f.name)) for f in fields(value) if f.init}
            )
        if isinstance(value, (tuple, list)):
            return type(value)(self._rebuild(part) for part in value)
        if type(value) is dict:
            return {key: self._rebuild(part) for key, part in value.items()}
        return self._argument(value)

    # -- how it is written down ---------------------------------------------------------------------------------------

    def _add(self, op: str, target: Any, args: Any, kwargs: Any, result: Any) -> None:
        node = self.graph.create_node(op, target, self._argument(args), self._argument(kwargs))
        node.meta["where"] = self._where()
        if not torch.is_grad_enabled():
            node.meta["no_grad"] = True
        self._learn_all(result, node)

    def _where(self) -> Where | None:
        return caller(sys._getframe(2), record.__code__)

    def _learn(self, tensor: Tensor, node: fx.Node) -> None:
        self._nodes[id(tensor)] = node
        self._kept.append(tensor)
        meta = node.meta
        meta["shape"], meta["dtype"], meta["requires_grad"] = tuple(tensor.shape), tensor.dtype, tensor.requires_grad
        if self._observer is not None:
            listened, self._paused = self._paused, True  # what the observer computes is no part of the model
            try:
                self._observer(node, tensor)
            finally:
                self._paused = listened

    def _learn_all(self, result: Any, node: fx.Node) -> None:
        if isinstance(result, Tensor):
            self._learn(result, node)
            return
        for access, key, part in parts(result):
            if holds_tensor(part):
                child = self.graph.create_node("call_function", access, (node, key))
                child.meta["where"] = node.meta.get("where")
                self._learn_all(part, child)

    def _node_of(self, tensor: Tensor) -> fx.Node:
        node = self._nodes.get(id(tensor))
        if node is None:
            node = self._attribute(tensor)
            self._learn(tensor, node)
        return node

    def _attribute(self, tensor: Tensor) -> fx.Node:
        """A tensor that no recorded op made: the model's own, or one from outside."""
        name = self._registered.get(id(tensor))
        if name is None:
            # Rebound by forward (self.running_mean = nn.Parameter(…)), or made while it ran.
            name = next((name for name, own in _own_tensors(self._root) if own is tensor), None)
        if name is not None:
            node = self.graph.create_node("get_attr", name)
            node.meta["where"] = self._where()
            return node
        if self._on_meta:
            raise ValueRead("a tensor whose origin was not seen is used")
        own = tensor.is_leaf and tensor.requires_grad  # a parameter that no module knows of: in a plain list, say
        node = self._constant(tensor if own else tensor.detach(), "tensor")
        node.meta["where"] = self._where()
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        reason = f"a tensor ({shape}) that is neither an input nor the model's own is a constant of the graph"
        if self._unseen or not (own or not tensor.requires_grad):
            made_by = f"{self._unseen or 'an operation'} out of sight of the recorder"
            reason = node.meta["opaque"] = f"a tensor ({shape}) was made by {made_by}"
        self.steered.append(Steering(reason, node.meta["where"]))
        return node

    def _constant(self, value: Any, kind: str) -> fx.Node:
        name = next((name for name, known in self.constants.items() if known is value), None)
        if name is None:
            name = f"_{kind}_{len(self.constants)}"
            self.constants[name] = value
        return self.graph.create_node("get_attr", name)

    def _argument(self, value: Any) -> Any:
        """`value` as an argument of a node."""
        if isinstance(value, Tensor):
            return self._node_of(value)
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "meta"):
            return self._device() if torch.device(value) == _META else value
        if isinstance(value, _LITERALS):
            return value
        if isinstance(value, (tuple, list)):
            parts = [self._argument(part) for part in value]
            if hasattr(value, "_fields"):
                plain = type(value).__bases__ == (tuple,)  # one with a constructor of its own may not take nodes
                return type(value)(*parts) if plain else self.graph.call_function(type(value), tuple(parts))
            return tuple(parts) if isinstance(value, tuple) else parts
        if isinstance(value, dict):
            return {key: self._argument(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(self._argument(value.start), self._argument(value.stop), self._argument(value.step))
        return self._constant(value, "object")

    def _device(self) -> Any:
        """The device of the input, read when the graph runs."""
        if self._first_input is None:
            return torch.device("cpu")
        if self._device_node is None:
            with self.graph.inserting_after(self._first_input):
                self._device_node = self.graph.create_node(
                    "call_function", getattr, (self._first_input, "device"), name="input_device"
                )
        return self._device_node


def _own_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers and tensors that are plain attributes of the modules of `root`, by qualified name."""
    yield from root.named_parameters()
    yield from root.named_buffers()
    for prefix, module in root.named_modules():
        for name, value in module.__dict__.items():
            if isinstance(value, Tensor):
                yield f"{prefix}.{name}" if prefix else name, value


def record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    on_meta: bool = False,
    observer: Observer | None = None,
) -> tuple[Recording, Any]:
    """Runs `model(*args, **kwargs)` and records it. Returns the recording and what the model returned.

    The model is run as it stands: lend it meta tensors, guard its state and choose its mode before.

    Raises:
        ValueRead: on meta only, where a tensor of unknown origin would have to become a constant.
        Exception: whatever the model raises.
    """
    recorder = Recorder(model, on_meta, observer)
    recorder.bind_inputs(args, kwargs)
    drawn = random.getstate()
    with torch.enable_grad(), intercepted(recorder), recorder:
        output = model(*args, **kwargs)
    recorder.output(output)
    if random.getstate() != drawn:
        recorder.steered.append(Steering("random numbers are drawn in Python", None))
    device = _META.type if on_meta else next((t.device.type for t in recorder._kept), "cpu")
    return Recording(recorder.graph, device, recorder.constants, tuple(recorder.steered), recorder.bound), output
