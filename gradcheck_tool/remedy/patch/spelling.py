"""How a layer's constructor is spelled: which it is, the expression of its size, its device and dtype."""

from __future__ import annotations

import libcst as cst
from torch import nn

from gradcheck_tool.remedy.patch.source import Source, every, gives, last_name

_SIZE_AT: tuple[tuple[type[nn.Module], int, str], ...] = (
    (nn.LazyLinear, 0, "out_features"),
    (nn.Bilinear, 2, "out_features"),
    (nn.Linear, 1, "out_features"),
    (nn.LazyConv1d, 0, "out_channels"),
    (nn.LazyConv2d, 0, "out_channels"),
    (nn.LazyConv3d, 0, "out_channels"),
    (nn.LazyConvTranspose1d, 0, "out_channels"),
    (nn.LazyConvTranspose2d, 0, "out_channels"),
    (nn.LazyConvTranspose3d, 0, "out_channels"),
    *(
        (conv, 1, "out_channels")
        for conv in (
            *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
            *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        )
    ),
)
"""(layer, the position of its output size among the arguments, the keyword of it)."""
_LAYERS = {cls.__name__: (position, keyword) for cls, position, keyword in _SIZE_AT}
_CONV_PLACED = {9: "device", 10: "dtype"}
_PLACED_AT = {
    "Linear": {3: "device", 4: "dtype"},
    "Bilinear": {4: "device", 5: "dtype"},
    **{f"Conv{dims}d": _CONV_PLACED for dims in (1, 2, 3)},
    **{f"ConvTranspose{dims}d": _CONV_PLACED for dims in (1, 2, 3)},
}
"""Where device and dtype stand among the positional arguments."""
_PURE_CALLS = frozenset({"int", "round", "max", "min", "len", "abs", "sum", "float"})


def size_attribute(module: nn.Module) -> str:
    """The attribute of a weight layer that holds its number of outputs."""
    return "out_features" if hasattr(module, "out_features") else "out_channels"


def is_constructor(node: cst.BaseExpression | None) -> bool:
    """Whether an expression constructs one of torch's own weight layers, by the name of what it calls."""
    return isinstance(node, cst.Call) and last_name(node.func) in _LAYERS


def size_of(source: Source, node: cst.BaseExpression, module: nn.Module | None) -> str | None:
    """The source expression of the output size of a layer's constructor, which made `module`; None where there is none
    to be copied."""
    place = _place_of_size(source, node, module)
    return None if place is None else _argument(source, node, *place)


def input_size_of(source: Source, node: cst.BaseExpression, module: nn.Module | None) -> str | None:
    """The same of the input size; None for a layer with two inputs, or lazy ones."""
    place = _place_of_size(source, node, module)
    return None if place is None or place[0] != 1 else _argument(source, node, 0, place[1].replace("out_", "in_"))


def _place_of_size(source: Source, node: cst.BaseExpression, module: nn.Module | None) -> tuple[int, str] | None:
    """The position and the keyword of the output size among the arguments of a layer's constructor."""
    if is_constructor(node) and isinstance(node, cst.Call):
        return _LAYERS[last_name(node.func)]
    if isinstance(node, cst.Call) and type(module).__name__ in _LAYERS and is_alias(source, node.func):
        return _LAYERS[type(module).__name__]
    return None


def argument_of(call: cst.Call, position: int, keyword: str) -> cst.BaseExpression | None:
    """The argument of a call at a position, or of a keyword; None where it has none, or a star hides which it is."""
    if any(argument.star == "*" for argument in call.args):
        return None
    for at, argument in enumerate(call.args):
        if argument.star:
            continue
        if argument.keyword.value == keyword if argument.keyword is not None else at == position:
            return argument.value
    return None


def _argument(source: Source, node: cst.BaseExpression, position: int, keyword: str) -> str | None:
    """The text of an argument of a call, if it may be written a second time."""
    expression = argument_of(node, position, keyword) if isinstance(node, cst.Call) else None
    if expression is None or not _can_be_copied(expression):
        return None
    start, end = source.span(expression)
    text = source.text[start:end]
    return " ".join(text.split()) if "\n" in text else text


def _can_be_copied(node: cst.BaseExpression) -> bool:
    """Whether evaluating an expression a second time gives the same and does nothing else."""
    if isinstance(node, cst.Call):
        plain = isinstance(node.func, cst.Name) and node.func.value in _PURE_CALLS
        return plain and all(_can_be_copied(argument.value) for argument in node.args)
    if isinstance(node, (cst.Name, cst.Integer, cst.Float, cst.SimpleString)):
        return True
    if isinstance(node, cst.Attribute):
        return _can_be_copied(node.value)
    if isinstance(node, cst.Subscript):
        indices = [element.slice for element in node.slice]
        return _can_be_copied(node.value) and all(
            isinstance(index, cst.Index) and _can_be_copied(index.value) for index in indices
        )
    if isinstance(node, cst.BinaryOperation):
        return _can_be_copied(node.left) and _can_be_copied(node.right)
    if isinstance(node, cst.UnaryOperation):
        return _can_be_copied(node.expression)
    if isinstance(node, cst.IfExp):
        return all(_can_be_copied(part) for part in (node.test, node.body, node.orelse))
    return isinstance(node, cst.Comparison)


def placement(source: Source, node: cst.BaseExpression | None) -> str:
    """The device and dtype that a layer's constructor is given, and a `**factory_kwargs`, as arguments of its norm."""
    if not isinstance(node, cst.Call):
        return ""
    kept = []
    positions = _PLACED_AT.get(last_name(node.func), {})
    for at, argument in enumerate(node.args):
        text = source.of(argument.value)
        named = argument.keyword is not None and argument.keyword.value in ("device", "dtype")
        if named or (argument.star == "**" and "factory" in text):
            start, end = source.span(argument)
            kept.append(source.text[start:end])
        elif at in positions and argument.keyword is None and not argument.star:
            kept.append(f"{positions[at]}={text}")
    return "".join(f", {text}" for text in kept)


_MOVES = frozenset({"to", "cuda", "cpu", "double", "float", "half", "bfloat16"})


def has_numbers_alone(node: cst.BaseExpression | None) -> bool:
    """Whether a call is given nothing but literals, so that a number beside it says no less."""
    plain = (cst.Integer, cst.Float, cst.SimpleString)
    return isinstance(node, cst.Call) and all(isinstance(argument.value, plain) for argument in node.args)


def moved(source: Source, node: cst.BaseExpression) -> cst.BaseExpression:
    """`node` with the calls behind it that move a layer: `nn.Linear(3, 4).to(device)`."""
    attribute = source.parent(node)
    call = source.parent(attribute) if attribute is not None else None
    if isinstance(attribute, cst.Attribute) and attribute.value is node and isinstance(call, cst.Call):
        return moved(source, call) if attribute.attr.value in _MOVES and call.func is attribute else node
    return node


def is_alias(source: Source, func: cst.BaseExpression) -> bool:
    """Whether a name that is called stands for a layer's class, as after `fc = partial(nn.Linear, bias=False)`."""
    if not isinstance(func, cst.Name):
        return False
    values = [assign.value for assign in every(source.module, cst.Assign) if gives(assign, func.value)]
    return bool(values) and all(map(_stands_for_layer, values))


def _stands_for_layer(value: cst.BaseExpression) -> bool:
    if isinstance(value, cst.Call) and last_name(value.func) == "partial" and value.args:
        plain = len([argument for argument in value.args if argument.keyword is None]) == 1
        return plain and last_name(value.args[0].value) in _LAYERS
    return last_name(value) in _LAYERS


def tensor_size(source: Source, node: cst.CSTNode, dim: int) -> str | None:
    """The expression of a size of the tensor that is made in a statement, as in `nn.Parameter(torch.randn(n, m))`."""
    factory = next((call for call in every(node, cst.Call) if last_name(call.func) in _FACTORIES), None)
    if factory is None:
        return None
    sizes = [argument.value for argument in factory.args if argument.keyword is None]
    if len(sizes) == 1 and isinstance(sizes[0], (cst.Tuple, cst.List)):
        sizes = [element.value for element in sizes[0].elements]
    if len(sizes) < 2 or not _can_be_copied(sizes[dim]):
        return None
    return source.of(sizes[dim])


_FACTORIES = frozenset({"empty", "zeros", "ones", "rand", "randn", "Tensor", "FloatTensor"})
