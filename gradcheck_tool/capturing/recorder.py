"""Runs a model once and writes the torch.fx graph of what ran.

A `TorchFunctionMode` sees every torch function and method; calls of torch's own layers become `call_module` nodes;
tensors are mapped to nodes by identity, kept alive meanwhile. Every node carries in `meta`: `shape`, `dtype` and
`requires_grad` of its tensor (where it is one), `where`, the point in the source (`sources.locate` reads it), and
`owner`, the module in whose forward it is.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode, _push_mode
from torch.utils.checkpoint import CheckpointFunction
from torch.utils.hooks import BackwardHook

from gradcheck_tool.capturing.interception import intercepted
from gradcheck_tool.capturing.ledger import META, Ledger, Observer, Steering
from gradcheck_tool.capturing.operations import HOOKS, VALUE_READS, Operation, constructors, operation
from gradcheck_tool.capturing.shapes import of_function, of_layer
from gradcheck_tool.compiler import uncompiled
from gradcheck_tool.sources import Boundary, Where, caller
from gradcheck_tool.state import generators_of, states_of
from gradcheck_tool.structures import holds_tensor

_transform_level = torch._C._functorch.peek_interpreter_stack
_SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Recording:
    """What one run left behind.

    `constants` are the objects and tensors that the graph refers to by an attribute of its own; `bound` the names of
    the parameters that forward bound to a new tensor, and where; `keeps` says that forward bound something to an
    attribute, and `makes` where it made a layer; `held` are the tensors of the run that somebody may still hold.
    """

    graph: fx.Graph
    device: str
    constants: Mapping[str, Any]
    steered: tuple[Steering, ...]
    bound: Mapping[str, Where | None]
    keeps: bool
    makes: tuple[Where | None, ...]
    held: Sequence[weakref.ref[Tensor]]


def is_leaf(module: nn.Module) -> bool:
    """Whether a call of `module` is one node: torch's own layers are, unless they hold layers themselves."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if not type(module).__module__.startswith(("torch.nn.", "torch.ao.nn.")) or isinstance(module, _SEQUENCES):
        return False
    return all(name == "parametrizations" for name in module._modules)


class _Unheard:
    """While it is entered, the recorder hears nothing: not even that it is asked, which costs as much as a small op."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._on_top = False

    def __enter__(self) -> None:
        self._recorder.paused = True
        self._on_top = _get_current_function_mode() is self._recorder
        if self._on_top:
            _pop_mode()

    def __exit__(self, *exception: object) -> None:
        if self._on_top:
            _push_mode(self._recorder)
        self._recorder.paused = False


@dataclass
class _Inside:
    """A module whose forward runs: its name, where the model has it, and the place that called it, once looked for."""

    name: str | None
    located: bool = False
    where: Where | None = None


class Recorder(TorchFunctionMode):
    """Writes the graph of what runs under it, in the thread that made it. Use through `record`."""

    def __init__(self, root: nn.Module, on_meta: bool, observer: Observer | None) -> None:
        super().__init__()
        self.ledger = Ledger(root, on_meta, self._watch if observer is not None else None, record.__code__)
        self.graph = self.ledger.graph
        self.bound: dict[str, Where | None] = {}
        self._root = root
        self.on_meta = on_meta
        self._observer = observer
        self.paused = False
        self._thread = threading.get_ident()
        self._modules = {id(module): name for name, module in root.named_modules()}
        self._leaves: dict[int, bool] = {}
        self._hooks: dict[int, fx.Node] = {}
        self._kept: list[Any] = []
        self._handles: list[tuple[fx.Node, Any]] = []
        self._inside: list[_Inside] = []
        self.ledger.boundary = Boundary(Recorder.enter.__code__, self._outside)
        self.keeps = False
        self.makes: list[Where | None] = []

    # -- what is recorded ---------------------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """False inside a leaf, in threads that the model starts, and inside torch.func's transforms (vmap, grad), whose
        tensors have no life outside of them."""
        if self.paused or threading.get_ident() != self._thread:
            return False
        if _transform_level() is not None:
            if self.ledger.unseen is None:
                self.ledger.unseen, self.ledger.unseen_where = "torch.func", self.ledger.where()
            return False
        return True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.listening:
            return func(*args, **kwargs)
        result = self._run(func, args, kwargs)
        name = getattr(func, "__name__", "")
        if name in VALUE_READS:
            self.ledger.steered.append(Steering(f"the value of a tensor is read by {name}", self.ledger.where()))
        acts = name in HOOKS or (result is None and name != "__get__" and holds_tensor(args))  # x[0] = y, x.data = y
        if holds_tensor(result) or acts or func is torch._C._set_grad_enabled:
            made = operation(func, args, kwargs)
            self._add(*(made or self._call_of(func, "__call__", args, kwargs)), result)
            if name in HOOKS:
                self._handles.append((next(reversed(self.graph.nodes)), result))
        return result

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.on_meta:
            known = of_function(func, args, kwargs)
            if known is not None:
                return known
            if func in constructors() and kwargs.get("device") != META:
                kwargs = kwargs | {"device": META}
        return func(*args, **kwargs)

    def forget_removed_hooks(self) -> None:
        """Takes out of the graph the hooks on tensors that forward has removed again."""
        for node, handle in self._handles:
            if handle.id not in (handle.hooks_dict_ref() or {}) and not node.users:
                self.graph.erase_node(node)

    def call_leaf(
        self, module: nn.Module, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs a leaf module and records it as one node."""
        with _Unheard(self):
            result = of_layer(module, args, kwargs) if self.on_meta else None
            if result is None:
                result = run(module, *args, **kwargs)
            self._add("call_module", self._modules[id(module)], args, kwargs, result)
        return result

    def enter(self, module: nn.Module, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a module whose parts are recorded one by one."""
        self._inside.append(_Inside(self._modules.get(id(module))))
        try:
            return run(module, *args, **kwargs)
        finally:
            self._inside.pop()

    def _outside(self, frame: FrameType) -> Where | None:
        """The place that calls the module whose `enter` is `frame`, the innermost."""
        innermost = self._inside[-1]
        if not innermost.located:
            innermost.located, innermost.where = True, caller(frame.f_back, record.__code__)
        return innermost.where

    def takes(self, module: nn.Module) -> bool:
        """Whether a call of `module` is to be recorded as one node: not where it runs with other weights than its own,
        as under torch.func.functional_call."""
        key = id(module)
        if module is self._root or key not in self._modules:
            return False
        leaf = self._leaves.get(key)
        if leaf is None:
            leaf = self._leaves[key] = is_leaf(module)
        if not leaf or isinstance(module, torch.jit.ScriptModule):  # a script makes its tensors anew when asked
            return leaf
        return self.ledger.owns(module)

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
        with _Unheard(self):
            result = run(*args, **kwargs)
        self._add(*self._call_of(owner, method, args, kwargs), result)
        return result

    def _call_of(self, owner: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation:
        return "call_method", method, (self.ledger.constant(owner, "function"), *args), kwargs

    def call_hook(self, hook: BackwardHook, method: str, run: Callable[..., Any], args: Any) -> Any:
        """Runs what sets the backward hooks of a module around its call, and records that they are set again."""
        node = self._hooks.get(id(hook))
        if node is None:
            module = self.graph.create_node("get_attr", self._modules.get(id(hook.module)) or "itself")
            hooks = [self.ledger.constant(tuple(one), "object") for one in (hook.user_hooks, hook.user_pre_hooks)]
            node = self._hooks[id(hook)] = self.graph.create_node("call_function", BackwardHook, (module, *hooks))
            self._kept.append(hook)
        with _Unheard(self):
            result = run(args)
        made = self.graph.create_node("call_method", method, (node, self.ledger.argument(args)))
        made.meta["where"] = self.ledger.where()
        self.ledger.learn_all(result, made)
        return result

    def note_attribute(self, value: Any) -> None:
        """Notes that forward binds something to an attribute of a module."""
        self.keeps = True
        if isinstance(value, nn.Module) and id(value) not in self._modules:
            self.makes.append(self.ledger.where())

    def note_mode(self, module: nn.Module, training: bool) -> None:
        """Records that forward puts a part of the model in another mode: `self.norm.eval()`."""
        owner = self._modules.get(id(module))
        if owner is not None:
            holder = self.graph.create_node("get_attr", owner or "itself")
            self.side_effect(setattr, (holder, "training", training))

    def side_effect(self, function: Callable[..., Any], args: tuple[Any, ...]) -> fx.Node:
        """Records a call that has no tensor in it."""
        return self.graph.create_node("call_function", function, args)

    def note_assignment(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Records that forward binds a tensor that it computed to an attribute: `self.running_mean = 0.9 * …`."""
        owner = self._modules.get(id(module))
        registries = (module._parameters, module._buffers, module.__dict__)
        if owner is None or not self.ledger.knows(value) or any(own.get(name) is value for own in registries):
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
            self.bound[f"{owner}.{name}" if owner else name] = self.ledger.where()

    # -- how it is written down ---------------------------------------------------------------------------------------

    def _add(self, op: str, target: Any, args: Any, kwargs: Any, result: Any) -> None:
        ledger = self.ledger
        node = ledger.create(op, target, args, kwargs)
        node.meta["where"] = ledger.where()
        node.meta["owner"] = next((one.name for one in reversed(self._inside) if one.name), "")
        if not torch.is_grad_enabled():
            node.meta["no_grad"] = True
        ledger.learn_all(result, node)

    def _watch(self, node: fx.Node, tensor: Tensor) -> None:
        """Shows the observer a tensor; what it computes is no part of the model."""
        if self._observer is not None:
            listened, self.paused = self.paused, True
            try:
                self._observer(node, tensor)
            finally:
                self.paused = listened


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
    ledger = recorder.ledger
    ledger.bind_inputs(args, kwargs)
    generators = generators_of(model)
    drawn = states_of(generators)
    with uncompiled(), torch.enable_grad(), intercepted(recorder), recorder:
        output = model(*args, **kwargs)
    ledger.output(output)
    recorder.forget_removed_hooks()
    if states_of(generators) != drawn:
        ledger.steered.append(Steering("random numbers are drawn in Python", None))
    facts = tuple(ledger.steered), recorder.bound, recorder.keeps, tuple(recorder.makes)
    return Recording(ledger.graph, ledger.device, ledger.constants, *facts, ledger.forget()), output
