"""Which tensor is which node: the tensors that a run has made so far, by identity, and the values that nodes are given.

Tensors are kept alive meanwhile, so that an identity stays one tensor's own.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from gradcheck_tool.capturing.objects import emptied, filled, tensors_within
from gradcheck_tool.sources import Boundary, Where, caller
from gradcheck_tool.structures import holds_tensor, parts
from gradcheck_tool.wording import size

Observer = Callable[[fx.Node, Tensor], None]
"""Is shown each node and its tensor at the moment at which it was computed."""

META = torch.device("meta")
_TORCH_CONSTANTS = (torch.dtype, torch.device, torch.layout, torch.memory_format)
_LITERAL_TYPES = frozenset({fx.Node, int, float, bool, type(None), torch.dtype})
_LITERALS = (fx.Node, int, float, complex, bool, str, type(None), type(...), *_TORCH_CONSTANTS)


class ValueRead(Exception):
    """The model reads values while there are none (on meta), or uses a tensor whose origin was not seen there."""


@dataclass(frozen=True)
class Steering:
    """A value, or a drawn number, on which the model's way through Python may have depended."""

    reason: str
    where: Where | None


class Ledger:
    """Writes values into a graph as arguments of nodes.

    Args:
        root: the model that runs.
        on_meta: whether it runs without data.
        watch: is shown each tensor that is learnt, and its node.
        stop: the code from which on frames are not the model's any more.
    """

    def __init__(self, root: nn.Module, on_meta: bool, watch: Observer | None, stop: CodeType) -> None:
        self.graph = fx.Graph()
        self.constants: dict[str, Any] = {}
        self.steered: list[Steering] = []
        self.boundary: Boundary | None = None
        self.unseen: str | None = None
        self.unseen_where: Where | None = None
        self._root = root
        self._on_meta = on_meta
        self._watch = watch
        self._stop = stop
        self._nodes: dict[int, fx.Node] = {}
        self._names: dict[Any, str] = {}
        self._kept: list[Tensor] = []
        self._constant_names: dict[int, str] = {}
        self._registered = {id(tensor): name for name, tensor in _own_tensors(root)}
        self._first_input: fx.Node | None = None
        self._device_node: fx.Node | None = None

    def where(self) -> Where | None:
        """The place in the model's source that is running."""
        return caller(sys._getframe(1), self._stop, self.boundary)

    def knows(self, tensor: Tensor) -> bool:
        """Whether the tensor is an input, or was made or used by a node."""
        return id(tensor) in self._nodes

    def owns(self, module: nn.Module) -> bool:
        """Whether a module runs with tensors that were the model's when it was given, and not with ones put in their
        place, as by torch.func.functional_call."""
        for registry in (module._parameters, module._buffers):
            for tensor in registry.values():
                if tensor is not None and id(tensor) not in self._registered:
                    return False
        return True

    @property
    def device(self) -> str:
        """The kind of device on which the run's tensors are."""
        return META.type if self._on_meta else next((tensor.device.type for tensor in self._kept), "cpu")

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

    def create(self, op: str, target: Any, args: Any = (), kwargs: Any = None) -> fx.Node:
        """A node at the end of the graph, given values as they are in the run."""
        name = self._names.get(target)
        if name is None:
            name = self._names[target] = self.graph._target_to_str(target)
        args, kwargs = self.argument(args), self.argument(kwargs)
        node = self.graph.create_node(op, target, name=name)
        # Set, and not given: create_node looks through what it is given for symbolic sizes, of which there are none.
        if args:
            node.args = args
        if kwargs:
            node.kwargs = kwargs
        return node

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
        return self.argument(value)

    def forget(self) -> list[weakref.ref[Tensor]]:
        """Lets the tensors of the run go, and says where those would be found that somebody else still holds."""
        found = [weakref.ref(tensor) for tensor in self._kept]
        self._kept.clear()
        self._nodes.clear()
        return found

    # -- tensors and nodes --------------------------------------------------------------------------------------------

    def _learn(self, tensor: Tensor, node: fx.Node) -> None:
        self._nodes[id(tensor)] = node
        self._kept.append(tensor)
        meta = node.meta
        meta["shape"], meta["dtype"], meta["requires_grad"] = tuple(tensor.shape), tensor.dtype, tensor.requires_grad
        if self._watch is not None:
            self._watch(node, tensor)

    def learn_all(self, result: Any, node: fx.Node) -> None:
        """Maps the tensors in `result` to `node`, or to nodes that take them out of it."""
        if isinstance(result, Tensor):
            self._learn(result, node)
            return
        for access, key, part in parts(result):
            if holds_tensor(part):
                child = self.graph.create_node("call_function", access, (node, key))
                child.meta["where"] = node.meta.get("where")
                self.learn_all(part, child)

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
            node.meta["where"] = self.where()
            return node
        if self._on_meta:
            raise ValueRead("a tensor whose origin was not seen is used")
        own = tensor.is_leaf and tensor.requires_grad  # a parameter that no module knows of: in a plain list, say
        node = self.constant(tensor if own else tensor.detach(), "tensor")
        node.meta["where"] = self.where() or self.unseen_where
        shape = size(tensor.shape)
        reason = f"a tensor ({shape}) that is neither an input nor the model's own is a constant of the graph"
        if self.unseen or not (own or not tensor.requires_grad):
            made_by = f"{self.unseen or 'an operation'} out of sight of the recorder"
            reason = node.meta["opaque"] = f"a tensor ({shape}) was made by {made_by}"
        self.steered.append(Steering(reason, node.meta["where"]))
        return node

    def constant(self, value: Any, kind: str) -> fx.Node:
        """A node for an object from outside, which becomes an attribute of the graph's own."""
        name = self._constant_names.setdefault(id(value), f"_{kind}_{len(self.constants)}")
        self.constants[name] = value
        return self.graph.create_node("get_attr", name)

    def argument(self, value: Any) -> Any:
        """`value` as an argument of a node."""
        if type(value) in _LITERAL_TYPES:
            return value
        if isinstance(value, Tensor):
            return self._nodes.get(id(value)) or self._node_of(value)
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "meta"):
            return self._device() if torch.device(value) == META else value
        if isinstance(value, np.generic):  # np.float64 is a float, but generated code has no name for it
            return value.item()
        if isinstance(value, _LITERALS):
            return value
        if isinstance(value, (tuple, list)):
            parts = [part if type(part) in _LITERAL_TYPES else self.argument(part) for part in value]
            if hasattr(value, "_fields"):
                plain = type(value).__bases__ == (tuple,)  # one with a constructor of its own may not take nodes
                return type(value)(*parts) if plain else self.graph.call_function(type(value), tuple(parts))
            return tuple(parts) if isinstance(value, tuple) else parts
        if isinstance(value, dict):
            return {key: self.argument(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(self.argument(value.start), self.argument(value.stop), self.argument(value.step))
        return self._object(value)

    def _object(self, value: Any) -> fx.Node:
        """An object of a class that fx does not know: a constant, or where it holds tensors (a cache of keys and
        values, say) a copy of it that is filled with them anew in each run."""
        held = list({id(tensor): tensor for tensor in tensors_within(value)}.values())
        if not held:
            return self.constant(value, "object")
        nodes = [self._node_of(tensor) for tensor in held]
        return self.graph.call_function(filled, (self.constant(emptied(value, held), "object"), nodes))

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
