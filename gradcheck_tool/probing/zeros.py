"""Why a gradient is exactly zero: which weight, gain or dead activation on its way down lets nothing through.

Zeros beneath a layer that starts at zero (a zero head, the B of LoRA, the last gain of a residual branch) are how such
models are meant to start: a reason in the report, no verdict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor, fx, nn

from gradcheck_tool.chains import Call, Structure
from gradcheck_tool.parametrized import still
from gradcheck_tool.results import LayerGradient
from gradcheck_tool.wording import in_short


def explain_zeros(
    layers: Sequence[LayerGradient], structure: Structure, model: nn.Module, too_small: Collection[str]
) -> list[str]:
    """A sentence on each kind of layers whose gradient is exactly zero.

    Args:
        layers: what was measured.
        structure: of the graph that ran.
        model: whose weights are read.
        too_small: the layers whose gradient is zero because it became too small for its dtype.
    """
    zeros = {layer.name for layer in layers if layer.output_grad_norm == 0.0}
    if not zeros:
        return []
    walk = _Walk(structure, model, {layer.name: layer for layer in layers})
    beneath: dict[str, set[str]] = {}
    for call in reversed(structure.calls):
        if call.name in zeros and call.name not in too_small:
            found = walk.causes(call)
            for above in walk.calls_above[call]:
                found |= beneath.get(above.name, set())
            beneath[call.name] = found
    order = [call.name for call in structure.calls]
    known = [name for name in order if beneath.get(name)]
    unknown = [name for name in order if name in beneath and not beneath[name]]
    sentences = []
    if known:
        causes = list(dict.fromkeys(cause for name in known for cause in sorted(beneath[name])))
        sentences.append(f"zero gradient at this step at {in_short(known)}, beneath {in_short(causes)}")
    if unknown:
        sentences.append(f"the gradient at {in_short(unknown)} is exactly zero")
    small = [name for name in order if name in zeros and name in too_small]
    if small:
        sentences.append(f"the gradient at {in_short(small)} is exactly zero: too small for its dtype")
    return sentences


class _Walk:
    """From a call towards the output, as far as the next weight layers."""

    def __init__(self, structure: Structure, model: nn.Module, layers: Mapping[str, LayerGradient]) -> None:
        self.calls = {call.node: call for call in structure.calls}
        self.silent = {
            node: f"{call.name}, none of whose units is active"
            for call, node in structure.activation_of.items()
            if call.name in layers and layers[call.name].dead_fraction == 1.0
        }
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        self.layers = layers
        self.calls_above: dict[Call, list[Call]] = {}
        self._zero: dict[str, bool] = {}

    def causes(self, call: Call) -> set[str]:
        """What is zero between `call` and the weight layers above it, those included."""
        found: set[str] = set()
        above: list[Call] = []
        seen = {call.node}
        pending = [call.node]
        while pending:
            node = pending.pop()
            if node in self.silent:
                found.add(self.silent[node])
                continue
            for user in node.users:
                if user in seen:
                    continue
                seen.add(user)
                zero = next(iter(self._zeros_at(user)), None)
                if zero is not None:
                    found.add(f"{zero}, which is zero")
                elif user in self.calls:
                    above.append(self.calls[user])
                else:
                    pending.append(user)
        self.calls_above[call] = above
        return found

    def _zeros_at(self, node: fx.Node) -> Iterable[str]:
        """The weights that a node multiplies by, where all of them are zero."""
        if node.op == "call_module":
            module = self.modules.get(str(node.target))
            weight = None if module is None else still(module)
            if isinstance(weight, Tensor) and self._is_zero(f"{node.target}.weight", weight):
                yield f"{node.target}.weight"
            return
        for part in node.all_input_nodes:
            name = str(part.target)
            scales = part.op == "get_attr" and name in self.tensors and _multiplies(node)
            if scales and not name.endswith("bias") and self._is_zero(name, self.tensors[name]):
                yield name

    def _is_zero(self, name: str, tensor: Tensor) -> bool:
        if name not in self._zero:
            self._zero[name] = tensor.numel() > 0 and not bool(tensor.detach().any())
        return self._zero[name]


def _multiplies(node: fx.Node) -> bool:
    """Whether a zero operand makes the result, and so the gradient of the other operand, zero."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.strip("_") not in (
        "add",
        "iadd",
        "radd",
        "sub",
        "rsub",
        "isub",
        "cat",
        "stack",
        "where",
        "expand",
        "to",
    )
