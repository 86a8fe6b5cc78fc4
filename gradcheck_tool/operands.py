"""What an operation does with its operands: which of them it computes with, which are factors, and whether it is
nonlinear in them.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from gradcheck_tool.ops import DIVISIONS, POWERS, Kind, Operation, operation_name

_MADE_TO_MEASURE_NAMES = """
    zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty"""
_MADE_TO_MEASURE = frozenset(_MADE_TO_MEASURE_NAMES.split())
_SELECTIONS = frozenset({"where", "maximum", "minimum", "max", "min", "fmax", "fmin"})
_SHAPED_LIKE = frozenset({"expand_as", "view_as", "reshape_as", "type_as", "to", "align_as"})
"""Ops whose second tensor only lends its shape or its type."""


def is_made_to_measure(operation: Operation) -> bool:
    """Whether a call takes the shape of its operand and nothing of its values: `x.new_zeros(…)`, `randn_like(x)`."""
    return operation.name in _MADE_TO_MEASURE


def selects(operation: Operation) -> bool:
    """Whether each element of the result is one of several given, so that it is nonlinear where they are related."""
    return operation.name in _SELECTIONS or operation.name in ("masked_fill", "masked_scatter")


def bends(node: fx.Node, operation: Operation, data: fx.Node) -> bool:
    """Whether a sum or a product with one operand that depends on the input, `data`, is a nonlinear function of it:
    `torch.maximum(x, zero)`, `x * x`, `scale / x`, `base ** x`."""
    first, second = (*node.args, None, None)[:2]
    if operation.kind is Kind.SUM:
        return operation.name in _SELECTIONS - {"where"} and first is not second
    if operation.kind is not Kind.PRODUCT:
        return False
    if operation.name in POWERS:
        return True
    return second is data and (first is data or operation.name in DIVISIONS)


def meets_itself(node: fx.Node) -> bool:
    """Whether a matrix product is of one value with itself: `x @ x`."""
    data, _ = factors(node)
    nodes = [part for part in data if isinstance(part, fx.Node)]
    return len(nodes) > 1 and len(set(nodes)) == 1


def operands(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values `node` is computed from, in the order of its arguments, each once."""
    if node.op in ("call_function", "call_method"):
        if _picks_one(node) and isinstance(node.args[0], fx.Node):
            return [node.args[0]]
        if node.args and operation_name(node) in _SHAPED_LIKE and isinstance(node.args[0], fx.Node):
            return [node.args[0]]
        written = node.kwargs.get("out")
        if written is not None:
            return [part for part in node.all_input_nodes if part is not written or part in node.args]
    return node.all_input_nodes


def _picks_one(node: fx.Node) -> bool:
    """Whether one matrix of a stack is picked by a number that was computed, as `experts[index]`: the number only says
    which. (A row of a table, `table[token]`, is an embedding of the number.)"""
    if operation_name(node) != "getitem" or len(node.args) < 2:
        return False
    index = node.args[1]
    return isinstance(index, fx.Node) and index.meta.get("shape") == () and len(node.meta.get("shape", ())) > 1


_BIASED_PRODUCTS = {  # by keyword, every factor: which of them is the weight shows only by what is a parameter
    "addmm": ("mat1", "mat2"),
    "addmv": ("mat", "vec"),
    "addbmm": ("batch1", "batch2"),
    "baddbmm": ("batch1", "batch2"),
}


def factors(node: fx.Node) -> tuple[list[Any], list[Any]]:
    """(data, weights) of a matrix product or functional layer: `F.linear(x, w)`, `x @ w`, `addmm(b, x, w)`.

    In a plain product either factor may be the weight; both are returned in both lists then.
    """
    name, args, kwargs = operation_name(node), list(node.args), node.kwargs
    if name == "einsum":
        rest = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
        return rest, rest
    if name.startswith(("linear", "conv", "bilinear")) and not name.startswith("linalg"):
        inputs = ("input1", "input2") if name == "bilinear" else ("input",)
        data = [args[at] if len(args) > at else kwargs.get(key) for at, key in enumerate(inputs)]
        weight_at = len(inputs)
        return data, [args[weight_at] if len(args) > weight_at else kwargs.get("weight")]
    if name in _BIASED_PRODUCTS:
        both = args[1:3] + [kwargs[key] for key in _BIASED_PRODUCTS[name] if key in kwargs]
        return both, both
    if name in ("chain_matmul", "linalg_multi_dot"):
        args = list(args[0]) if args and isinstance(args[0], (list, tuple)) else args
        return args, args
    both = args[:2] + [kwargs[key] for key in ("input", "other", "mat2", "vec", "vec2", "tensor") if key in kwargs]
    return both, both


def covers_all(index: Any) -> bool:
    """Whether `x[index]` is all of x: an index of nothing but `:`, `...` and None."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is Ellipsis or part is None or (isinstance(part, slice) and part == slice(None)) for part in parts)
