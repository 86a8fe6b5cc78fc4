"""A bias is added right in front of a batch norm or instance norm, which subtracts it again.

**What it does**
Finds weight layers with a trainable bias whose output goes into a batch norm or an instance norm and nowhere else.

**Why is this bad**
The norm subtracts the mean of each channel, and the bias with it: whatever its value, the output is the same. Its
gradient is zero but for rounding, so it is never trained; weight decay and Adam, which divides the rounding errors by
their own size, move it all the same. It takes memory for itself, its gradient and the optimizer's state, and time to
add. What shifts the output is the norm's own bias.

**Severity**
Always `note`: nothing goes wrong.

**Known problems**
The model is read in training mode. A batch norm that stands in evaluation mode there, in a frozen backbone, subtracts
a stored mean and not the bias: no finding. Nor is there one where the bias is frozen, tied to another layer's or read
by anything else; where one call of the layer has no norm behind it; or where anything but `nn.Identity` stands between
layer and norm. Layer, group and RMS norm do not take out a bias per channel; a hand-written norm is not looked at.

Published weights may hold such a bias, those of torchvision's `vgg11_bn` do: keep the layers as they are to load them.

**Example**
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 2, 1))

**Use instead**
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 2, 1))

**Fix safety**
Safe: in training the model computes the same, but for rounding. Old checkpoints have a key more. A trained model
computes the same in evaluation too if the bias is subtracted from the norm's `running_mean`.

**References**
Ioffe & Szegedy 2015, Batch Normalization, section 3.2: "the bias b can be ignored since its effect will be canceled
by the subsequent mean subtraction".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gradcheck_tool.results import Finding, Fix

if TYPE_CHECKING:
    from gradcheck_tool.rules.view import View

CODE = "GT004"
NAME = "redundant-bias"


def check(view: View) -> Iterator[Finding]:
    """One finding for each place in the source that makes such layers."""
    from gradcheck_tool.biases import void_calls
    from gradcheck_tool.rules.view import by_place

    calls = {call.layer: call for call in void_calls(view.structure, view.model)}
    for location, layers in by_place((name, view.location_of_call(call)) for name, call in calls.items()).items():
        yield Finding(
            rule=CODE,
            name=NAME,
            severity="note",
            message=_message(layers, view),
            layers=tuple(layers),
            location=location,
            fix=Fix("drop-bias", "safe"),
        )


def _message(layers: Sequence[str], view: View) -> str:
    from gradcheck_tool.rules.view import named

    modules = dict(view.model.named_modules())
    noun, have, them = ("biases", "have", "them") if len(layers) > 1 else ("bias", "has", "it")
    advice = "use bias=False" if all(name in modules for name in layers) else f"leave {them} out"
    return f"the {noun} of {named(layers)} {have} no effect: the norm behind subtracts {them} again; {advice}"
