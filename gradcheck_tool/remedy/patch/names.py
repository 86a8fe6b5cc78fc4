"""What the new norms are called, by what the file calls its layers and by their kind: `bn1` or `ln1` beside `fc1`,
`norm` in a block."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

import libcst as cst

_NUMBERED = re.compile(r"(?:fc|conv|convs|deconv|convt|lin|linear|dense|layer|hidden|l|c|h)(?P<number>_?\d[\d_]*)")
_PLAIN = re.compile(r"(?:fc|conv|conv1d|conv2d|conv3d|deconv|lin|linear|dense|layer|proj|hidden|l|c)")

_STEM = re.compile(_PLAIN.pattern + r"(?P<rest>_?(?:%[ds]|\{\w*\})?)")


_SHORT = {"Batch": "bn", "Layer": "ln", "Group": "gn", "Instance": "in", "RMS": "norm"}
"""What people call a norm of each kind, in front of a number."""


def short_name(norm: str) -> str:
    """`bn` for `BatchNorm1d`."""
    return _SHORT[norm.partition("Norm")[0]]


def attribute_names(layers: Mapping[str, str], taken: Callable[[str], bool]) -> dict[str, str]:
    """A name for the norm behind each of the `layers`, attributes of one class, each with the class of its norm. Those
    of one kind, as `conv1` and `conv2`, are all named alike: a loop may spell their names."""
    numbered = {
        layer: f"{short_name(norm)}{match['number']}"
        for layer, norm in layers.items()
        if (match := _NUMBERED.fullmatch(layer))
    }
    counts = Counter(numbered.values())
    clashing = {_kind(layer) for layer, name in numbered.items() if counts[name] > 1 or taken(name)}
    names: dict[str, str] = {}
    for layer in layers:
        wanted = numbered.get(layer) if _kind(layer) not in clashing else None
        if wanted is None and len(layers) == 1 and _PLAIN.fullmatch(layer) and not taken("norm"):
            wanted = "norm"
        names[layer] = free(wanted or f"{layer}_norm", lambda name: taken(name) or name in names.values())
    return names


def numbering(layer: str, name: str) -> str | None:
    """The `bn` of `bn1`, where the norm behind `fc1` is called so; None for one that is called otherwise."""
    match = _NUMBERED.fullmatch(layer)
    short = name.removesuffix(match["number"]) if match is not None else ""
    return short if short != name and short in _SHORT.values() else None


def _kind(layer: str) -> str:
    """`conv` of `conv2_1`."""
    return layer.rstrip("0123456789_")


def free(wanted: str, taken: Callable[[str], bool]) -> str:
    """`wanted`, or with a number where that is taken."""
    name, count = wanted, 1
    while taken(name):
        count += 1
        name = f"{wanted}_{count}"
    return name


def named_after(node: cst.BaseExpression, text: str, short: str | None) -> str | None:
    """The expression, in the file's own spelling, of the name of the norm behind the layer that `node` names: with `bn`
    for `short`, `"fc1"` → `"bn1"`, `f"fc{i}"` → `f"bn{i}"`; without, and for other names, `name` → `name + "_norm"`.
    `text` is that of `node`; None where that cannot be told."""
    if isinstance(node, cst.SimpleString):
        inner = str(node.raw_value)
        match = _NUMBERED.fullmatch(inner) if short else None
        if match is not None:
            return _spelled(node, f"{short}{match['number']}")
        return None if inner.isdigit() else _spelled(node, f"{inner}_norm")
    if isinstance(node, cst.FormattedString):
        first = node.parts[0] if node.parts else None
        if isinstance(first, cst.FormattedStringText) and len(node.parts) > 1:
            stem = _stem(first.value, short)
            if stem is not None:
                return f"{node.start}{stem}{text[len(node.start) + len(first.value) :]}"
        return f"{text[: -len(node.end)]}_norm{node.end}"
    beginning = _beginning(node)
    adds = isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add)
    if beginning is not None:
        inner = str(beginning.raw_value)
        stem = _stem(inner, short)
        if stem is None and not adds:  # "layer%d" % i, "layer{}".format(i)
            stem = f"{inner}_norm"
        if stem is not None:
            whole = _spelled(beginning, inner)
            return f"{_spelled(beginning, stem)}{text[len(whole) :]}" if text.startswith(whole) else None
    if adds or isinstance(node, (cst.Name, cst.Attribute, cst.Subscript, cst.Call)):
        return f'{text} + "_norm"'
    return None


def _beginning(node: cst.BaseExpression) -> cst.SimpleString | None:
    """The string with which `"fc" + str(i)`, `"fc%d" % i` or `"fc{}".format(i)` begins."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, (cst.Add, cst.Modulo)):
        return node.left if isinstance(node.left, cst.SimpleString) else None
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "format":
        return node.func.value if isinstance(node.func.value, cst.SimpleString) else None
    return None


def _spelled(node: cst.SimpleString, inner: str) -> str:
    return f"{node.prefix}{node.quote}{inner}{node.quote}"


def _stem(beginning: str, short: str | None) -> str | None:
    """`bn` for `fc`, `bn_%d` for `conv_%d`: the beginning of a numbered name, for its norm; None for other names."""
    match = _STEM.fullmatch(beginning) if short else None
    return None if match is None else f"{short}{match['rest']}"
