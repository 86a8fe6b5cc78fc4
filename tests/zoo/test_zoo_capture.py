"""Public models with real weights: the captured graph computes what they compute, and `fix` keeps its promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import TRANSFORMERS
from torch import Tensor, nn

import gradcheck_tool as gct
from gradcheck_tool.structures import tensors_in

BATCHES = (3, 2, 5)
"""The example's, and two others."""


def vision(name: str, size: int = 64, **options: Any) -> Callable[[], tuple[nn.Module, Callable[[int], Tensor]]]:
    def build() -> tuple[nn.Module, Callable[[int], Tensor]]:
        models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
        return models.get_model(name, weights=None, **options), lambda batch: torch.randn(batch, 3, size, size)

    return build


def timm(name: str, size: int = 64, **options: Any) -> Callable[[], tuple[nn.Module, Callable[[int], Tensor]]]:
    def build() -> tuple[nn.Module, Callable[[int], Tensor]]:
        zoo = pytest.importorskip("timm", reason="timm is not installed")
        return zoo.create_model(name, **options), lambda batch: torch.randn(batch, 3, size, size)

    return build


def language(name: str) -> Callable[[], tuple[nn.Module, Callable[[int], Tensor]]]:
    def build() -> tuple[nn.Module, Callable[[int], Tensor]]:
        pytest.importorskip("transformers", reason="transformers is not installed")
        row = next(row for row in TRANSFORMERS if row.name == name)
        return row.build(), lambda batch: torch.randint(64, (batch, 12))

    return build


MODELS = {
    "resnet18": vision("resnet18"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "densenet121": vision("densenet121"),
    "googlenet": vision("googlenet", init_weights=False),
    "inception_v3": vision("inception_v3", 96, init_weights=False, aux_logits=False),  # with it, 299 x 299 at least
    "swin_t": vision("swin_t"),
    "vit_tiny": timm("vit_tiny_patch16_224", img_size=64),
    "convnext_atto": timm("convnext_atto"),
    "mixer_s32": timm("mixer_s32_224", img_size=64),
    "nf_resnet26": timm("nf_resnet26"),
    "drop path": timm("deit3_small_patch16_224", img_size=64, drop_path_rate=0.2),
    "bert": language("BertForMaskedLM"),
    "gpt2": language("GPT2LMHeadModel"),
    "llama": language("LlamaForCausalLM"),
    "mamba": language("MambaForCausalLM"),
}


def outputs_and_gradients(run: nn.Module, model: nn.Module, data: Tensor) -> list[Tensor]:
    """The floating outputs of `run`, and the gradients of one loss of them by the input and by every parameter."""
    data = data.clone().requires_grad_(data.is_floating_point())
    torch.manual_seed(0)
    outputs = [tensor for tensor in tensors_in(run(data)) if tensor.is_floating_point()]
    loss = sum(output.square().mean() for output in outputs if output.requires_grad)
    leaves = [data, *model.parameters()] if data.requires_grad else list(model.parameters())
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [*outputs, *(torch.zeros(()) if gradient is None else gradient for gradient in gradients)]


@pytest.mark.parametrize("name", MODELS)
def test_the_captured_graph_computes_what_the_model_computes(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    graph = gct.capture(model.train(), inputs(BATCHES[0]))
    for training in (True, False):
        model.train(training)
        graph.train(training)
        for batch in BATCHES:
            data = inputs(batch)
            theirs, ours = (outputs_and_gradients(run, model, data) for run in (model, graph))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


FIXED = {
    "alexnet": (vision("alexnet"), 7),
    "squeezenet1_1": (vision("squeezenet1_1"), 17),
    "vgg11": (timm("vgg11", 32, num_classes=10, mlp_ratio=0.05), 10),
}


@pytest.mark.parametrize("name", FIXED)
def test_fix_inserts_norms_that_take_any_batch_and_keeps_every_name(name: str) -> None:
    torch.manual_seed(0)
    build, depth = FIXED[name]
    model, inputs = build()
    result = gct.fix(model, inputs(4))
    assert len(result.plan) + len(result.skipped) == depth
    assert result.plan
    kept = {key: value.shape for key, value in result.model.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()}.items() <= kept.items()
    for batch in (2, 5):
        for training in (True, False):
            out = result.model.train(training)(inputs(batch))
            assert out.shape[0] == batch
            assert out.isfinite().all()
