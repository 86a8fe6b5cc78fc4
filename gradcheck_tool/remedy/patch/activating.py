"""Other activations → proposals: the module or the function is exchanged where it is made or called, if that place
serves no other activation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import libcst as cst
from torch import fx, nn

from gradcheck_tool.chains import Structure
from gradcheck_tool.ops import operation_name
from gradcheck_tool.remedy.activations import ActivationChange, activations
from gradcheck_tool.remedy.base import Step
from gradcheck_tool.remedy.patch.pairing import kinds
from gradcheck_tool.remedy.patch.proposal import Proposal, Refused
from gradcheck_tool.remedy.patch.scene import Scene
from gradcheck_tool.remedy.patch.source import Source, Splice, last_name
from gradcheck_tool.sources import Stack

_CLASSES = {"relu": "ReLU", "gelu": "GELU"}
_LIBRARIES = {"torch": ("relu",), "F": ("relu", "gelu"), "functional": ("relu", "gelu")}
"""What the usual names of torch's modules have of the new functions."""


def propose_activations(
    model: nn.Module, structure: Structure, steps: Sequence[Step], origins: Mapping[str, Stack]
) -> Iterator[Proposal]:
    """The one change of the user's files that exchanges the activations of `steps`.

    Raises:
        Refused: with the reason, where there is none.
    """
    scene = Scene(model, structure, (), origins)
    planned = frozenset(_planned(structure, steps))
    for node, step in _planned(structure, steps).items():
        if node.op == "call_module":
            _exchange_module(scene, node, step, planned)
        else:
            _exchange_call(scene, node, step, planned)
    yield scene.proposal()


def kinds_after(model: nn.Module, structure: Structure, steps: Sequence[Step]) -> Counter[str]:
    """How many modules of each class the model has once the activations are exchanged."""
    found, modules = kinds(model), dict(model.named_modules(remove_duplicate=False))
    planned = _planned(structure, steps)
    exchanged = {id(modules[str(node.target)]): step for node, step in planned.items() if node.op == "call_module"}
    for module in model.modules():
        if id(module) in exchanged:
            found[type(module).__qualname__] -= 1
            found[_CLASSES[exchanged[id(module)].new]] += 1
    return +found


def _planned(structure: Structure, steps: Sequence[Step]) -> dict[fx.Node, ActivationChange]:
    nodes = activations(structure)
    changes = [step for step in steps if isinstance(step, ActivationChange)]
    return {nodes[step.layer]: step for step in changes}


def _exchange_module(scene: Scene, node: fx.Node, step: ActivationChange, planned: frozenset[fx.Node]) -> None:
    """`nn.Sigmoid()` → `nn.ReLU()`."""
    name = str(node.target)
    module = scene.modules[name]
    calls = [other for other in scene.structure.operations if other.op == "call_module"]
    wanted = {id(scene.modules[str(other.target)]) for other in planned & set(calls)}
    if any(scene.modules[str(other.target)] is module and other not in planned for other in calls):
        raise Refused(f"the {type(module).__name__} behind {step.layer} is called for others that keep it")
    made = next(scene.made(scene.origins.get(name, ())), None)
    cls = type(module).__name__
    if made is None or not isinstance(made.node, cst.Call) or last_name(made.node.func) != cls:
        raise Refused(f"the {cls} behind {step.layer} is not made by its name in your files")
    beside = [other for other in scene.made_at(made.spot) if type(scene.modules[other]) is type(module)]
    if any(id(scene.modules[other]) not in wanted for other in beside):
        raise Refused(f"one place makes the {cls} behind {step.layer} and others that stay")
    source, call, new = made.source, made.node, _CLASSES[step.new]
    end = source.span(call)[1]
    start, func_end = source.span(call.func)
    if isinstance(call.func, cst.Attribute):
        start = source.span(call.func.attr)[0]
    else:
        scene.require(source, new)
    kept = all(argument.keyword is not None and argument.keyword.value == "inplace" for argument in call.args)
    scene.change(source, Splice(start, func_end, new) if kept else Splice(start, end, f"{new}()"))


def _exchange_call(scene: Scene, node: fx.Node, step: ActivationChange, planned: frozenset[fx.Node]) -> None:
    """`torch.sigmoid(x)` → `torch.relu(x)`, `x.exp()` → `x.relu()`."""
    where = node.meta.get("where")
    found = scene.node_at(where)
    old = operation_name(node)
    if found is None or not isinstance(found[1], cst.Call) or not isinstance(found[1].func, cst.Attribute):
        raise Refused(f"the {step.old} behind {step.layer} is not called by its name in your files")
    source, call = found
    func, new = found[1].func, step.new
    name = func.attr.value
    if name.rstrip("_") != old.rstrip("_") or any(argument.keyword or argument.star for argument in found[1].args):
        raise Refused(f"the {step.old} behind {step.layer} is not called by its name alone")
    if scene.operations_at(where) - planned:
        raise Refused(f"one place calls the {step.old} behind {step.layer} for others that keep it")
    if _is_named_after(source, call, step.old):
        raise Refused(f"the class around the {step.old} behind {step.layer} is called after it")
    library = _LIBRARIES.get(last_name(func.value), ())
    if len(found[1].args) != (1 if library else 0) or new not in (library or ("relu",)):
        raise Refused(f"{source.of(func)} has no {new} of the same arguments")
    start, end = source.span(func.attr)
    scene.change(source, Splice(start, end, new + "_" * name.endswith("_")))


def _is_named_after(source: Source, node: cst.CSTNode, old: str) -> bool:
    classes = [around for around in source.parents(node) if isinstance(around, cst.ClassDef)]
    return any(old in cls.name.value.lower() for cls in classes)
