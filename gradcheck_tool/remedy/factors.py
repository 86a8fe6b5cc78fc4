"""A learnable factor at the end of a branch: one number, a new parameter beside the branch's last layer."""

from __future__ import annotations

import torch
from torch import fx, nn

from gradcheck_tool.capturing import CapturedModule
from gradcheck_tool.chains import Call
from gradcheck_tool.remedy.layers import free_name, weight_of


def new_factor(model: CapturedModule, call: Call, value: float) -> str:
    """Gives the owner of a call's layer a parameter of no dimension, of the dtype and on the device of the layer's
    weight; its name: `body.3_scale` for `body.3`."""
    name = free_name(f"{call.layer}_scale", model)
    owner, _, key = name.rpartition(".")
    weight = weight_of(call, model)
    factor = torch.full((), value, device=weight.device, dtype=weight.dtype)
    model.get_submodule(owner).register_parameter(key, nn.Parameter(factor))
    return name


def multiplied(end: fx.Node, name: str, before: fx.Node) -> fx.Node:
    """A node for `end` times the factor of that name, in front of the node `before`."""
    with before.graph.inserting_before(before):
        factor = before.graph.create_node("get_attr", name)
        scaled = before.graph.create_node("call_function", torch.mul, (end, factor))
    factor.meta.update({"shape": (), "dtype": end.meta.get("dtype")})
    scaled.meta.update({key: end.meta[key] for key in ("shape", "dtype") if key in end.meta})
    return scaled
