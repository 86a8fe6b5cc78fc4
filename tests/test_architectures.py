"""The chains of well-known architectures, read off their diagrams by hand."""

from __future__ import annotations

import pytest
import torch
from architectures import (
    Chains,
    DenseNet,
    UNet,
    alexnet,
    chains_of,
    googlenet,
    image,
    resnet,
    squeezenet,
    structure_of,
    vgg,
)
from torch import nn

from gradcheck_tool.chains import forest

CHAINS = [
    pytest.param(
        vgg(), [["0", "3", "6", "8", "11", "14"]], id="a VGG is one chain through pooling, flattening and dropout"
    ),
    pytest.param(vgg(norm=True), [["15", "18"]], id="a VGG with batch norm has a chain only in its classifier"),
    pytest.param(alexnet(), [["0", "3", "5", "10"]], id="an AlexNet is one chain"),
    pytest.param(
        resnet(),
        [["0", "2.a"], ["3.a"], ["4.a"]],
        id="a ResNet without norms has none longer than stem and first branch",
    ),
    pytest.param(resnet(norm=True), [], id="a ResNet with norms has no chain"),
    pytest.param(
        squeezenet(),
        [["0", "2.squeeze", "2.one", "4.squeeze", "4.one"], ["2.three"], ["4.three"]],
        id="a SqueezeNet is one chain through the expansions computed first",
    ),
    pytest.param(
        UNet(),
        [["e1a", "e1b", "e2a", "e2b", "ma", "mb"], ["d2a", "d2b"], ["d1a", "d1b"]],
        id="a U-Net is one chain down and short ones up",
    ),
    pytest.param(
        DenseNet(),
        [["stem", "layers.0"], ["layers.1"], ["layers.2"], ["layers.3"]],
        id="in a DenseNet the stem is a way round for every layer",
    ),
    pytest.param(
        googlenet(),
        [
            ["0", "2.one", "3.three.0", "3.three.1", "3.three.2"],
            ["2.three.0", "2.three.1", "2.three.2"],
            ["2.two.0", "2.two.1"],
            ["3.two.0", "3.two.1"],
            ["2.pool"],
            ["3.one"],
            ["3.pool"],
        ],
        id="in an Inception net the shortest branch goes on and the others are chains of their own",
    ),
]


@pytest.mark.parametrize(("model", "expected"), CHAINS)
def test_convolutional_nets(model: nn.Module, expected: Chains) -> None:
    assert chains_of(model, image()) == expected


def test_a_post_norm_encoder_layer_has_its_feed_forward_block_alone() -> None:
    structure = structure_of(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 3, 8))
    assert [[block.name for block in chain] for chain in structure.chains] == [["linear1"]]
    assert structure.not_analyzed == ()


def test_a_transformer_has_one_block_in_each_feed_forward_layer() -> None:
    model = nn.Transformer(8, 2, 2, 1, 16, batch_first=True)
    expected = [["encoder.layers.0.linear1"], ["encoder.layers.1.linear1"], ["decoder.layers.0.linear1"]]
    assert chains_of(model, torch.randn(2, 3, 8), torch.randn(2, 4, 8)) == expected


@pytest.mark.parametrize(
    ("model", "blocks"), [pytest.param(case.values[0], case.values[1], id=case.id) for case in CHAINS]
)
def test_every_block_is_in_exactly_one_chain(model: nn.Module, blocks: Chains) -> None:
    structure = structure_of(model, image())
    listed = [block for chain in structure.chains for block in chain]
    assert len(listed) == len(set(listed)) == len(structure.blocks) == sum(map(len, blocks))


def test_edges_lead_from_each_block_to_those_whose_run_goes_on_from_it() -> None:
    edges = {(a.name, b.name) for a, b in forest(structure_of(resnet(), image()).blocks).edges}
    assert edges == {("0", "2.a"), ("0", "3.a"), ("0", "4.a")}
