"""A plan, applied to a captured graph: copy, edit, lint and compile once. Linear in the size of the graph.

Per call, not per module: a layer that is called twice gets two norms, each behind its own call.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call, analyze
from gradcheck_tool.remedy.layers import shared_copy, weight_of
from gradcheck_tool.results import Insertion


def insert(captured: CapturedModule, plan: Sequence[Insertion]) -> CapturedModule:
    """A copy of `captured`, which shares its tensors, with the norms of `plan`, freshly initialized, in the mode, dtype
    and on the device of the layers that they follow. Every key of the old state dict is there.

    The steps of a recurrence share one norm, as they share the layer's weight (Ba, Kiros & Hinton 2016, section 3.1):
    another sequence has another number of them.

    Raises:
        KeyError: the plan names a call that the graph does not have.
    """
    fixed = shared_copy(captured)
    structures = [analyze(graph, fixed) for graph in fixed.graphs]
    calls = [{call.name: call for call in structure.calls} for structure in structures]
    stepped = frozenset[str]().union(*(structure.recurrent for structure in structures))
    taken = {name for name, _ in fixed.named_modules()}
    shared: dict[str, str] = {}
    for insertion in plan:
        here = [found[insertion.after] for found in calls if insertion.after in found]
        if not here:
            raise KeyError(f"no call {insertion.after} in the captured graph")
        layer = here[0].layer
        name = shared.get(layer) or _free_name(here[0], taken)
        if name not in taken:
            taken.add(name)
            fixed.add_submodule(name, _norm_for(insertion, here[0], fixed))
        if layer in stepped:
            shared[layer] = name
        for call in here:
            _insert_behind(call.node, name)
    return fixed.checked()


def _insert_behind(node: fx.Node, name: str) -> None:
    with node.graph.inserting_after(node):
        norm = node.graph.create_node("call_module", name, (node,))
    node.replace_all_uses_with(norm, delete_user_cb=lambda user: user is not norm)
    norm.meta.update(node.meta)


def _free_name(call: Call, taken: set[str]) -> str:
    """`fc1` → `fc1_norm`, beside the layer; the second call's `fc1_norm_2`."""
    base = f"{call.layer}_norm"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name


def _norm_for(insertion: Insertion, call: Call, model: nn.Module) -> nn.Module:
    weight = weight_of(call, model)
    training = (model.get_submodule(call.module) if call.module is not None else model).training
    dtype = call.node.meta["dtype"] if weight.dtype == call.node.meta["dtype"] else weight.dtype
    return new_norm(insertion, device=weight.device, dtype=dtype).train(training)


def new_norm(insertion: Insertion, device: torch.device | None = None, dtype: torch.dtype | None = None) -> nn.Module:
    """The norm that `insertion` asks for, in training mode; `Insertion.constructed` spells the same."""
    sizes = (insertion.num_features,) if insertion.groups is None else (insertion.groups, insertion.num_features)
    options = {"affine": True} if insertion.norm.startswith("InstanceNorm") else {}
    norm: nn.Module = getattr(nn, insertion.norm)(*sizes, **options, device=device, dtype=dtype)
    return norm
