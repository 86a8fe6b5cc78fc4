"""GT004: a bias that a norm subtracts again wherever it is added is found; one that has any effect is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import Net, findings, image, vgg
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gradcheck_tool as gct
from gradcheck_tool.results import Finding
from gradcheck_tool.target import load_subject
from gradcheck_tool.tasks import audit_subject

VECTORS = torch.randn(4, 8)
Call = Callable[[Net, Tensor], Any]


def biases(model: nn.Module, x: Tensor) -> tuple[Finding, ...]:
    return findings(model, x, select="GT004")


def conv_net(forward: Call, **parts: Any) -> Net:
    """A net with a convolution `conv` of 3 to 4 channels, with a bias, and a norm `bn` for them."""
    defaults = {"conv": nn.Conv2d(3, 4, 3, padding=1), "bn": nn.BatchNorm2d(4)}
    return Net(forward, **(defaults | parts))


def straight(net: Net, x: Tensor) -> Tensor:
    return torch.relu(net.bn(net.conv(x)))


def evaluating(norm: nn.Module) -> nn.Module:
    return norm.eval()


def functional(norm: Callable[[Net, Tensor], Tensor]) -> Net:
    """A convolution by function, with `norm(net, z)` of its output behind it."""
    return Net(
        lambda net, x: torch.relu(norm(net, F.conv2d(x, net.k, net.b, padding=1))),
        k=nn.Parameter(torch.randn(4, 3, 3, 3)),
        b=nn.Parameter(torch.zeros(4)),
        mean=torch.zeros(4),
        var=torch.ones(4),
    )


class Equalized(nn.Conv2d):
    """A layer of the user's own, called as a function."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / 2, bias=self.bias)


class Activated(nn.BatchNorm2d):
    """timm's way of a norm and its activation in one."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        return F.relu(x)


VOID = [
    pytest.param(conv_net(straight), image(), id="Conv2d, BatchNorm2d, ReLU"),
    pytest.param(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)), VECTORS, id="Linear, BatchNorm1d"),
    pytest.param(nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), torch.randn(2, 3, 8), id="Conv1d, BatchNorm1d"),
    pytest.param(
        nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)), torch.randn(2, 3, 4, 4, 4), id="Conv3d, BatchNorm3d"
    ),
    pytest.param(
        conv_net(straight, conv=nn.ConvTranspose2d(3, 4, 2, 2)), image(), id="ConvTranspose2d, BatchNorm2d, ReLU"
    ),
    pytest.param(
        Net(lambda net, x: net.bn(net.fc(x, x)), fc=nn.Bilinear(8, 8, 4), bn=nn.BatchNorm1d(4)),
        VECTORS,
        id="Bilinear, BatchNorm1d",
    ),
    pytest.param(conv_net(straight, bn=nn.BatchNorm2d(4, affine=False)), image(), id="a norm without weights"),
    pytest.param(
        conv_net(straight, bn=nn.BatchNorm2d(4).requires_grad_(False)), image(), id="a norm with fixed weights"
    ),
    pytest.param(conv_net(straight, bn=nn.BatchNorm2d(4, track_running_stats=False)), image(), id="no statistics kept"),
    pytest.param(
        conv_net(straight, bn=evaluating(nn.BatchNorm2d(4, track_running_stats=False))),
        image(),
        id="a norm that evaluates by the batch's statistics, having no others",
    ),
    pytest.param(conv_net(straight, bn=nn.InstanceNorm2d(4)), image(), id="InstanceNorm2d"),
    pytest.param(
        conv_net(straight, bn=evaluating(nn.InstanceNorm2d(4))),
        image(),
        id="InstanceNorm2d, which always takes its own",
    ),
    pytest.param(conv_net(straight, bn=Activated(4)), image(), id="a norm of the user's own class"),
    pytest.param(conv_net(lambda net, x: net.bn(nn.Identity()(net.conv(x)))), image(), id="an Identity of no model"),
    pytest.param(
        conv_net(lambda net, x: net.bn(net.no(net.conv(x))), no=nn.Identity()), image(), id="Identity between"
    ),
    pytest.param(
        conv_net(lambda net, x: (net.bn(y := net.conv(x)), net.other(y)), other=nn.BatchNorm2d(4)),
        image(),
        id="two norms of one output",
    ),
    pytest.param(
        conv_net(lambda net, x: net.bn(net.conv(x[:, :3])) + net.bn(net.conv(x.flip(1)))),
        image(),
        id="two calls, each with a norm behind it",
    ),
    pytest.param(
        conv_net(straight, conv=parametrizations.weight_norm(nn.Conv2d(3, 4, 3))), image(), id="a parametrized weight"
    ),
    pytest.param(conv_net(straight, conv=Equalized(3, 4, 3)), image(), id="a layer of the user's own class"),
    pytest.param(
        functional(lambda net, z: F.batch_norm(z, net.mean, net.var, training=True)),
        image(),
        id="F.conv2d, F.batch_norm",
    ),
    pytest.param(
        functional(lambda net, z: F.batch_norm(z, None, None, None, None, True)), image(), id="F.batch_norm by position"
    ),
    pytest.param(functional(lambda net, z: F.instance_norm(z)), image(), id="F.conv2d, F.instance_norm"),
    pytest.param(
        Net(
            lambda net, x: F.batch_norm(F.linear(x, net.w, bias=net.b), None, None, training=True),
            w=nn.Parameter(torch.randn(4, 8)),
            b=nn.Parameter(torch.zeros(4)),
        ),
        VECTORS,
        id="F.linear, F.batch_norm",
    ),
]


@pytest.mark.parametrize(("model", "x"), VOID)
def test_a_bias_that_a_norm_subtracts_again_is_found(model: nn.Module, x: Tensor) -> None:
    (finding,) = biases(model, x)
    assert finding.severity == "note"
    assert len(finding.layers) == 1
    assert finding.fix is not None
    assert (finding.fix.remedy, finding.fix.applicability) == ("drop-bias", "safe")


@pytest.mark.parametrize(("model", "x"), VOID)
def test_what_is_found_gets_no_gradient_and_changes_no_output(model: nn.Module, x: Tensor) -> None:
    (finding,) = biases(model, x)
    twin = model.double()
    names = {name for name, _ in twin.named_parameters()} & {f"{finding.layers[0]}.bias", "b"}
    bias = twin.get_parameter(names.pop())
    before = outputs(twin, x.double())
    (gradient,) = torch.autograd.grad((before * torch.randn_like(before)).sum(), bias)
    with torch.no_grad():
        bias += torch.randn_like(bias)
    assert gradient.abs().max() < 1e-12
    torch.testing.assert_close(outputs(twin, x.double()), before, rtol=0, atol=1e-12)


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    result = model(x)
    return torch.cat(result) if isinstance(result, tuple) else result


def hooked(hook: Callable[[nn.Module], Any], part: str) -> Net:
    model = conv_net(straight)
    hook(model.get_submodule(part))
    return model


def tied() -> Net:
    model = conv_net(lambda net, x: net.bn(net.conv(x)) + net.other(x), other=nn.Conv2d(3, 4, 3, padding=1))
    model.other.bias = model.conv.bias
    return model


def frozen_bias() -> Net:
    model = conv_net(straight)
    model.conv.bias.requires_grad_(False)
    return model


def kept_in_a_list() -> Net:
    model = conv_net(straight)
    model.penalized = [model.conv.bias]
    return model


class FrozenBackbone(nn.Module):
    """Its own `train` leaves the norm in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> FrozenBackbone:
        super().train(mode)
        self.bn.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def evaluated_in_forward(net: Net, x: Tensor) -> Tensor:
    net.bn.eval()
    return straight(net, x)


def activated_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    F.relu_(y)
    return net.bn(y)


def with_items_set(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    y[:, :, 0] = 0
    return net.bn(y)


EFFECTIVE = [
    pytest.param(conv_net(straight, conv=nn.Conv2d(3, 4, 3, bias=False)), image(), id="no bias"),
    pytest.param(nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4)), VECTORS, id="layer norm"),
    pytest.param(nn.Sequential(nn.Linear(8, 4), nn.RMSNorm(4)), VECTORS, id="RMS norm"),
    pytest.param(conv_net(straight, bn=nn.GroupNorm(2, 4)), image(), id="group norm"),
    pytest.param(conv_net(straight, bn=nn.GroupNorm(4, 4)), image(), id="group norm, though of one channel each"),
    pytest.param(conv_net(straight, bn=evaluating(nn.BatchNorm2d(4))), image(), id="a norm that evaluates"),
    pytest.param(FrozenBackbone(), image(), id="a norm that its model will leave in evaluation"),
    pytest.param(FrozenBackbone().train(), image(), id="a norm that its model has left in evaluation"),
    pytest.param(FrozenBackbone().eval(), image(), id="the same in a model that is given in evaluation"),
    pytest.param(conv_net(evaluated_in_forward), image(), id="a norm that forward puts in evaluation"),
    pytest.param(frozen_bias(), image(), id="a bias that is frozen"),
    pytest.param(tied(), image(), id="a bias that is another layer's too"),
    pytest.param(kept_in_a_list(), image(), id="a bias that is kept in a list"),
    pytest.param(
        conv_net(lambda net, x: straight(net, x) + net.conv.bias.view(-1, 1, 1)), image(), id="a bias that is read"
    ),
    pytest.param(
        conv_net(lambda net, x: net.bn(y := net.conv(x)) + y), image(), id="an output that a shortcut takes too"
    ),
    pytest.param(conv_net(lambda net, x: (net.bn(y := net.conv(x)), y)), image(), id="an output that is returned too"),
    pytest.param(
        conv_net(lambda net, x: net.bn(y := net.conv(x)) * y.mean()), image(), id="an output of which a mean is taken"
    ),
    pytest.param(
        conv_net(lambda net, x: net.conv(straight(net, x)[:, :3])), image(), id="a second call without a norm behind"
    ),
    pytest.param(conv_net(lambda net, x: net.bn(torch.relu(net.conv(x)))), image(), id="an activation between"),
    pytest.param(conv_net(lambda net, x: net.bn(net.conv(x) + x[:, :1])), image(), id="a sum between"),
    pytest.param(conv_net(lambda net, x: net.bn(F.dropout(net.conv(x)))), image(), id="dropout between"),
    pytest.param(conv_net(lambda net, x: net.bn(F.pad(net.conv(x), (1, 1)))), image(), id="padding between"),
    pytest.param(conv_net(lambda net, x: net.bn(F.pixel_unshuffle(net.conv(x)[:, :1], 2))), image(), id="a part of it"),
    pytest.param(conv_net(activated_in_place), image(), id="an activation in place between"),
    pytest.param(conv_net(with_items_set), image(), id="items set in between"),
    pytest.param(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(5)), torch.randn(4, 5, 8), id="channels last"),
    pytest.param(
        nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(6)), torch.randn(3, 8), id="no batch, so that a norm takes 4"
    ),
    pytest.param(nn.Sequential(nn.Linear(8, 4), nn.InstanceNorm1d(4)), VECTORS, id="instance norm over the features"),
    pytest.param(
        nn.Sequential(nn.Conv1d(3, 4, 3), nn.InstanceNorm2d(2)), torch.randn(2, 3, 8), id="instance norm of an image"
    ),
    pytest.param(
        conv_net(straight, bn=evaluating(nn.InstanceNorm2d(4, track_running_stats=True))),
        image(),
        id="an instance norm that evaluates",
    ),
    pytest.param(
        hooked(lambda conv: conv.register_forward_hook(lambda module, args, y: y.relu()), "conv"),
        image(),
        id="a hook on the layer",
    ),
    pytest.param(
        hooked(lambda norm: norm.register_forward_pre_hook(lambda module, args: (args[0].relu(),)), "bn"),
        image(),
        id="a hook on the norm",
    ),
    pytest.param(
        functional(lambda net, z: F.batch_norm(z, net.mean, net.var)), image(), id="F.batch_norm by stored statistics"
    ),
    pytest.param(
        functional(lambda net, z: F.instance_norm(z, net.mean, net.var, use_input_stats=False)),
        image(),
        id="F.instance_norm by stored statistics",
    ),
    pytest.param(
        functional(lambda net, z: F.batch_norm(z, None, None, weight=z.mean((0, 2, 3)), training=True)),
        image(),
        id="a weight of the norm that is made of the output",
    ),
    pytest.param(
        Net(
            lambda net, x: (
                F.batch_norm(F.linear(x, net.w, net.b), None, None, training=True) + F.linear(x, net.w, net.b)
            ),
            w=nn.Parameter(torch.randn(4, 8)),
            b=nn.Parameter(torch.zeros(4)),
        ),
        VECTORS,
        id="a function called with the bias once more",
    ),
]


@pytest.mark.parametrize(("model", "x"), EFFECTIVE)
def test_a_bias_with_an_effect_is_no_finding(model: nn.Module, x: Tensor) -> None:
    assert biases(model, x) == ()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_mode_in_which_a_model_is_given_says_nothing(training: bool) -> None:
    model = conv_net(straight).train(training)
    assert len(biases(model, image())) == 1
    assert model.bn.training is training


def test_layers_that_one_place_calls_are_one_finding() -> None:
    (finding,) = biases(vgg(norm=True), image())
    assert finding.layers == ("0", "4", "8", "11")
    assert finding.message == (
        "the biases of 0 and 3 more have no effect: the norm behind subtracts them again; use bias=False"
    )


def test_a_functional_layer_is_told_to_leave_its_bias_out() -> None:
    (finding,) = biases(functional(lambda net, z: F.instance_norm(z)), image())
    assert finding.message == "the bias of k has no effect: the norm behind subtracts it again; leave it out"


def test_a_note_fails_nothing_and_its_layers_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(
        "from torch import nn\n\n"
        "blocks = [part for _ in range(4) for part in (nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())]\n"
        "model = nn.Sequential(*blocks, nn.Linear(8, 2))\n"
    )
    report = audit_subject(load_subject(str(path), input_specs=("4x8",)))
    assert report.ok
    (finding,) = report.findings
    assert finding.location is not None
    assert (finding.location.line, finding.location.column) == (3, 47)
    assert "    0 … 9 (4 layers)\n" in str(report)
    assert "gradtool fix" not in str(report)


def test_layers_that_the_message_names_are_not_listed_again() -> None:
    lines = str(gct.audit(conv_net(straight), image(), select=["GT004"])).splitlines()
    assert lines[0].endswith("the bias of conv has no effect: the norm behind subtracts it again; use bias=False")
    assert lines[1] == ""
