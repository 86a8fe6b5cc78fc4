"""A recorded graph as a module: `CapturedModule`, a `torch.fx.GraphModule` that keeps everything of the model it was
recorded from: all of its state dict, its modes, and pickling that does not trace again.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import PythonCode
from torch.fx.graph_module import _forward_from_src

from gradcheck_tool.capturing.codegen import AnyNameCodeGen


class CapturedModule(fx.GraphModule):
    """Computes what the model computes from which its graph was recorded.

    Args:
        root: the model; its submodules, parameters and buffers are shared, not copied.
        graph: what runs in training mode, and in evaluation mode too where `eval_graph` is None.
        eval_graph: what runs in evaluation mode, where the model's structure differs between the two.
        constants: objects and tensors that the graphs refer to as attributes of their own.
        kept_modes: by the mode asked for, the modules that the model's own `train` leaves in the other.
    """

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        eval_graph: fx.Graph | None = None,
        constants: Mapping[str, Any] | None = None,
        kept_modes: Mapping[bool, frozenset[str]] | None = None,
    ) -> None:
        super().__init__(nn.Module(), fx.Graph(), type(root).__name__)
        self.training = root.training
        for registry in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[registry] = copy.copy(root.__dict__[registry])
        for name, value in root.__dict__.items():
            if isinstance(value, Tensor):
                self.__dict__[name] = value  # a plain attribute, which the graph may read
        for name, value in (constants or {}).items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value, persistent=False)
            else:
                self.__dict__[name] = value
        self._own_constants = tuple(constants or ())
        self._kept_modes = dict(kept_modes or {})
        self._eval_graph = eval_graph
        for one in (graph, *([eval_graph] if eval_graph else [])):
            one.set_codegen(AnyNameCodeGen())
        self.graph = graph

    def train(self, mode: bool = True) -> CapturedModule:
        """Sets the mode as the model's own `train` does, which may keep parts in evaluation."""
        super().train(mode)
        for name in self.__dict__.get("_kept_modes", {}).get(mode, ()):
            self.get_submodule(name).training = not mode
        return self

    @property
    def itself(self) -> CapturedModule:
        """This module, for nodes that bind its attributes."""
        return self

    @property
    def graphs(self) -> tuple[fx.Graph, ...]:
        """The graph of training mode and, where the structure differs, that of evaluation mode."""
        return (self._graph,) if self._eval_graph is None else (self._graph, self._eval_graph)

    @property
    def graph(self) -> fx.Graph:
        """The graph of the mode that the module is in: torch.export and interpreters run it, not `forward`."""
        eval_graph: fx.Graph | None = self.__dict__.get("_eval_graph")
        return self._graph if self.training or eval_graph is None else eval_graph

    @graph.setter
    def graph(self, graph: fx.Graph) -> None:
        fx.GraphModule.graph.__set__(self, graph)  # type: ignore[attr-defined]

    def recompile(self) -> PythonCode:
        """Compiles the graphs into `forward`; call it once after editing them."""
        code = super().recompile()
        eval_graph = self.__dict__.get("_eval_graph")
        if eval_graph is not None:
            cls: Any = type(self)
            train_forward = cls.forward
            eval_code = eval_graph.python_code(root_module="self")
            eval_forward = _forward_from_src(eval_code.src, eval_code.globals, {})

            def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
                return (train_forward if self.training else eval_forward)(self, *args, **kwargs)

            forward.__signature__ = inspect.signature(train_forward)  # type: ignore[attr-defined]  # torch.export reads it
            cls.forward = forward
        return code

    def checked(self) -> CapturedModule:
        """Lints and compiles the graphs. The one call to make after editing them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lint warns of get_attr of what is no parameter: `training`, constants
            for graph in self.graphs:
                graph.owning_module = self
                graph.lint()
        self.recompile()
        return self

    def _state(self) -> dict[str, Any]:
        names = (
            "_parameters",
            "_buffers",
            "_modules",
            "_non_persistent_buffers_set",
            "training",
            "_own_constants",
            "_kept_modes",
        )
        state = {name: self.__dict__[name] for name in names}
        plain = {name: value for name, value in self.__dict__.items() if isinstance(value, Tensor)}
        objects = {name: self.__dict__[name] for name in self._own_constants if name in self.__dict__}
        return state | plain | objects

    def __deepcopy__(self, memo: dict[int, Any]) -> CapturedModule:
        for module in self.modules():
            for value in module.__dict__.values():
                if isinstance(value, Tensor) and value.grad_fn is not None:  # torch refuses to copy what was computed,
                    memo[id(value)] = value.detach().clone()  # as torch.nn.utils.weight_norm's `weight`, before it runs
        for name in self._own_constants:
            value = self.__dict__.get(name)
            if isinstance(value, torch.jit.ScriptFunction):  # cannot be copied, and holds nothing that changes
                memo[id(value)] = value
        graphs = [copy.deepcopy(graph) for graph in self.graphs]
        twin = _assemble(self.__class__.__name__, graphs, copy.deepcopy(self._state(), memo))
        for module in twin.modules():
            if isinstance(module, torch.jit.ScriptModule):  # of which torch copies what no optimizer takes
                for parameter in module.parameters():
                    _as_leaf(parameter)
        return twin

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        graphs = [serialize(graph) for graph in self.graphs]
        return _load, (self.__class__.__name__, graphs, self._state())

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.__reduce__()


def _assemble(name: str, graphs: list[fx.Graph], state: Mapping[str, Any]) -> CapturedModule:
    shell = nn.Module()
    shell.__class__ = type(name, (nn.Module,), {})  # only its name is read
    module = CapturedModule(shell, fx.Graph())
    module.__dict__.update(state)
    module._eval_graph = graphs[1] if len(graphs) > 1 else None
    for graph in graphs:
        graph.set_codegen(AnyNameCodeGen())
    module.graph = graphs[0]
    return module


def _load(name: str, graphs: list[tuple[Any, ...]], state: Mapping[str, Any]) -> CapturedModule:
    return _assemble(name, [deserialize(graph) for graph in graphs], state)


def _as_leaf(parameter: Tensor) -> None:
    learned = parameter.requires_grad
    parameter.detach_().requires_grad_(learned)


# -- a graph as plain data, so that a pickle holds the graph itself and not a recipe to trace it again -----------------


@dataclass(frozen=True)
class _Ref:
    """Another node, by its name."""

    name: str


@dataclass(frozen=True)
class _Function:
    """A function, by the module and the name under which it is found (pickle cannot find all of torch's by itself)."""

    module: str
    name: str

    def resolve(self) -> Any:
        found: Any = torch.ops if self.module == "torch.ops" else importlib.import_module(self.module)
        for name in self.name.split("."):
            found = getattr(found, name)
        return found


def _function_name(function: Any) -> Any:
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return _Function("torch.ops", str(function))  # aten.relu.default
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
    for place in (module, "torch", "torch.nn.functional"):
        if place is not None and getattr(importlib.import_module(place), name, None) is function:
            return _Function(place, name)
    return function


def serialize(graph: fx.Graph) -> tuple[Any, ...]:
    """`graph` as tuples and dataclasses. Source positions and shapes go with it; code objects do not."""
    rows = []
    for node in graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda other: _Ref(other.name))  # type: ignore[arg-type,return-value]
        target = _function_name(node.target) if node.op == "call_function" else node.target
        rows.append((node.op, node.name, target, args, dict(kwargs), dict(node.meta)))
    return tuple(rows)


def deserialize(rows: tuple[Any, ...]) -> fx.Graph:
    """The graph that `serialize` took apart."""
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}

    def resolve(value: Any) -> Any:
        if isinstance(value, _Ref):
            return nodes[value.name]
        if isinstance(value, tuple):
            parts = [resolve(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if isinstance(value, list):
            return [resolve(part) for part in value]
        if isinstance(value, dict):
            return {key: resolve(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(resolve(value.start), resolve(value.stop), resolve(value.step))
        return value

    for op, name, target, args, kwargs, meta in rows:
        callee = target.resolve() if isinstance(target, _Function) else target
        node = graph.create_node(op, callee, resolve(args), resolve(kwargs), name=name)
        node.meta.update(meta)
        nodes[name] = node
    return graph
