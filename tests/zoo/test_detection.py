"""torchvision's detectors, on a list of images of different sizes with a list of targets, in their real path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.errors import GradtoolError

pytest.importorskip("torchvision", reason="torchvision is not installed")

from torchvision import models
from torchvision.ops import nms, roi_align

DETECTORS = [
    pytest.param("fasterrcnn_resnet50_fpn", {2: 1, 1: 5}, id="Faster R-CNN: fc6 and fc7; the shared head on 5 levels"),
    pytest.param(
        "retinanet_resnet50_fpn",
        {5: 1, 4: 9},
        id="RetinaNet: two towers of 4 on 5 levels, the first of the last level behind p6",
    ),
    pytest.param("fcos_resnet50_fpn", {1: 1}, id="FCOS: its towers have group norm, p6 has none"),
    pytest.param("ssdlite320_mobilenet_v3_large", {2: 8}, id="SSDLite: the 8 gates of its backbone"),
]
TOWERS = "retinanet_resnet50_fpn"


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 96}
    if name.startswith("faster"):  # every proposal is pooled by itself
        sizes |= {"rpn_post_nms_top_n_train": 50, "rpn_post_nms_top_n_test": 50, "box_batch_size_per_image": 32}
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=3, **sizes)


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 80, generator=generator), torch.rand(3, 64, 96, generator=generator)]
    boxes = [torch.tensor([[8.0, 8, 50, 60]]), torch.tensor([[4.0, 8, 40, 50], [20, 30, 90, 60]])]
    labels = [torch.tensor([1]), torch.tensor([2, 1])]
    return images, [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]


@pytest.mark.parametrize(("name", "chains"), DETECTORS)
def test_a_detector_is_audited_with_images_and_targets(name: str, chains: Mapping[int, int]) -> None:
    report = gct.audit(build(name), batch())
    assert Counter(chain.depth for chain in report.chains) == Counter(chains), report.chains
    named = [spec.name for spec in report.inputs]
    assert named[:3] == ["images[0]", "images[1]", "targets[0]['boxes']"]


def test_a_detector_that_was_left_in_evaluation_mode_is_audited_in_training_mode_and_left_as_it_was() -> None:
    model = build(TOWERS).eval()
    assert [chain.depth for chain in gct.audit(model, batch()).chains] == [5] + [4] * 9
    assert not any(module.training for module in model.modules())


def test_a_detector_without_targets_is_refused_with_its_own_words() -> None:
    images, _ = batch()
    with pytest.raises(GradtoolError, match="targets should not be none when in training mode"):
        gct.audit(build(TOWERS).eval(), (images,))


def test_a_detector_is_probed_with_the_sum_of_its_losses() -> None:
    profile = gct.probe(build(TOWERS), batch(), loss_fn=lambda losses, _: sum(losses.values()), targets=0)
    assert profile.verdict != "non-finite"
    assert profile.loss == "user"
    assert {layer.name for layer in profile.layers} >= {"backbone.body.conv1", "head.classification_head.conv.0.0@5"}


@pytest.mark.parametrize("name", [TOWERS, "fasterrcnn_resnet50_fpn"])
def test_a_captured_detector_computes_what_it_computed_on_these_images(name: str) -> None:
    model = build(name)
    graph = gct.capture(model, batch())
    for training in (False, True):  # training moves the running statistics, and with them the boxes that are kept
        results = []
        for run in (model.train(training), graph.train(training)):
            torch.manual_seed(0)
            results.append(run(*batch()))
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_suppression_keeps_the_best_of_boxes_that_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 5.1]])
    scores = torch.tensor([0.5, 0.9, 0.1, 0.2])
    assert nms(boxes, scores, 0.5).tolist() == [1, 3, 2]  # 9/11 overlap goes, 45.9/105.1 stays
    assert nms(boxes, scores, 0.9).tolist() == [1, 0, 3, 2]
    assert nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_roi_align_averages_bilinear_samples_and_is_differentiable() -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    plane = (10 * rows + columns)[None, None].requires_grad_()
    box = torch.tensor([[0.0, 1, 2, 5, 6]])
    # a bilinear sample of a linear function is the function, and the mean over a cell is its value at the center
    pooled = roi_align(plane, box, (2, 2), sampling_ratio=2, aligned=True)
    centers = torch.tensor([[1.5, 3.5], [1.5, 3.5]]) + 10 * torch.tensor([[2.5, 2.5], [4.5, 4.5]])
    torch.testing.assert_close(pooled[0, 0], centers)
    torch.testing.assert_close(roi_align(plane, box, (2, 2), sampling_ratio=-1)[0, 0], centers + 5.5)
    pooled.sum().backward()
    torch.testing.assert_close(plane.grad.sum(), torch.tensor(4.0))
    outside = torch.tensor([[0.0, 20, 20, 30, 30]])
    assert roi_align(plane, outside, 2).eq(0).all()
    assert roi_align(plane, box[:0], 2).shape == (0, 1, 2, 2)
