"""Public architectures, and the chains that each holds: read off its source by hand, before the tool was asked.

A row says how many chains of each depth there are, deepest first, and why. What recurs in the derivations:

* A layer with a norm between it and its activation is no block, and behind a norm the run starts again at none: a
  network with batch norm behind every convolution has no chain.
* In a squeeze-and-excitation gate, sigmoid(fc2(relu(fc1(mean(x))))), both layers are blocks. The product with x is a
  join, and x, which skips them, is the shorter way: each gate is a chain of 2 of its own.
* In a transformer the first layer of each feed-forward part is a block, behind a norm, and the addition ends its chain
  at 1. The second layer meets the addition first. Queries, keys and values meet in attention, a join.
* A gated feed-forward part multiplies act(gate(x)) by up(x), two calls: the product is a join, and `gate` the block.
* What the last activation feeds the model's output with is the head, and no block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """One architecture: where it comes from, how it is built, its chains as {depth: how many}, and why."""

    zoo: str
    name: str
    chains: Mapping[int, int]
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[nn.Module], Any] | None = None
    not_analyzed: str | None = None
    """What `not_analyzed` has to name, where the run ends at something that is not understood."""
    device: str = "meta"
    """"cpu" where building or running the model reads values."""

    @property
    def depths(self) -> list[int]:
        """The depth of every chain, deepest first."""
        return [depth for depth in sorted(self.chains, reverse=True) for _ in range(self.chains[depth])]

    def build(self) -> nn.Module:
        """The model with random weights, on the default device."""
        return BUILDERS[self.zoo](self)

    def example(self, model: nn.Module) -> Any:
        """Inputs as `audit` takes them."""
        return self.inputs(model) if self.inputs else EXAMPLES[self.zoo](model)


def _torchvision(row: Row) -> nn.Module:
    from torchvision import models

    return models.get_model(row.name, weights=None, **row.options)


def _timm(row: Row) -> nn.Module:
    import timm

    return timm.create_model(row.name, **row.options)


def _transformers(row: Row) -> nn.Module:
    import transformers

    cls = getattr(transformers, row.name)
    return cls(cls.config_class(**row.options))


def _here(row: Row) -> nn.Module:
    return globals()[row.name](**row.options)


BUILDERS: Mapping[str, Callable[[Row], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
    "here": _here,
}


def image(size: int = 224, channels: int = 3) -> Callable[[nn.Module], Tensor]:
    return lambda model: torch.empty(2, channels, size, size)


def clip(model: nn.Module) -> Tensor:
    return torch.empty(2, 3, 16, 224, 224)


def tokens(model: nn.Module) -> Tensor:
    return torch.zeros(2, 16, dtype=torch.long)


EXAMPLES: Mapping[str, Callable[[nn.Module], Any]] = {
    "torchvision": image(),
    "timm": lambda model: torch.empty(2, *model.default_cfg["input_size"]),
    "transformers": tokens,
    "here": image(64),
}


class DoubleConv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            *(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True)),
        )


class UNet(nn.Module):
    """The U-Net of the paper, with padding and without norms: two convolutions a level, four levels down and up."""

    def __init__(self, width: int = 8, levels: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip([3, *widths], widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(DoubleConv(a, b) for a, b in pairs)
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.down[0](x)]
        for level in list(self.down)[1:]:
            skips.append(level(self.pool(skips[-1])))
        x = skips.pop()
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([skips.pop(), grow(x)], 1))
        return self.out(x)


_BACKBONE = {"weights_backbone": None}
_SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_ENCODER = _SMALL | {"intermediate_size": 64, "max_position_embeddings": 32}
_DECODER = _ENCODER | {"num_key_value_heads": 1, "pad_token_id": 0}

TORCHVISION = [
    Row("torchvision", "vgg11", {10: 1}, "8 convolutions and 2 hidden linear layers; pooling and flatten join them"),
    Row("torchvision", "vgg16", {15: 1}, "13 convolutions and 2 hidden linear layers"),
    Row("torchvision", "vgg11_bn", {2: 1}, "batch norm behind each convolution; the 2 hidden linear layers are left"),
    Row("torchvision", "alexnet", {7: 1}, "5 convolutions and 2 hidden linear layers"),
    Row("torchvision", "resnet18", {}, "batch norm behind each convolution, and nothing but the logits is linear"),
    Row("torchvision", "resnext50_32x4d", {}, "as a ResNet"),
    Row("torchvision", "densenet121", {}, "norm and ReLU stand before each convolution, so a norm behind each too"),
    Row("torchvision", "convnext_tiny", {1: 18}, "the GELU of each of 3+3+9+3 blocks, behind a layer norm"),
    Row("torchvision", "vit_b_16", {1: 12}, "one feed-forward block in each of 12 layers"),
    Row("torchvision", "swin_t", {1: 12}, "one feed-forward block in each of 2+2+6+2 layers"),
    Row(
        "torchvision",
        "swin_v2_t",
        {2: 12, 1: 12},
        "as swin_t, and the position bias of each layer: 16·sigmoid(cpb_mlp.2(relu(cpb_mlp.0(table))))",
    ),
    Row("torchvision", "mobilenet_v2", {}, "batch norm behind each convolution; the classifier is one linear layer"),
    Row("torchvision", "mobilenet_v3_small", {2: 9, 1: 1}, "9 gates, and the hidden layer of the classifier"),
    Row("torchvision", "mobilenet_v3_large", {2: 8, 1: 1}, "8 gates, and the hidden layer of the classifier"),
    Row("torchvision", "efficientnet_b0", {2: 16}, "a gate in each of 16 blocks"),
    Row("torchvision", "efficientnet_v2_s", {2: 30}, "a gate in each of the 6+9+15 blocks that are not fused"),
    Row("torchvision", "regnet_x_400mf", {}, "batch norm behind each convolution, no gates", device="cpu"),
    Row("torchvision", "regnet_y_400mf", {2: 16}, "a gate in each of 1+3+6+6 blocks", device="cpu"),
    Row("torchvision", "shufflenet_v2_x1_0", {}, "batch norm behind each convolution"),
    Row("torchvision", "mnasnet1_0", {}, "batch norm behind each convolution"),
    Row(
        "torchvision",
        "googlenet",
        {1: 2},
        "batch norm behind each convolution; in training, fc1 of each of the two auxiliary classifiers",
        {"init_weights": False},
    ),
    Row(
        "torchvision",
        "inception_v3",
        {},
        "batch norm behind each convolution; the auxiliary classifier's one linear layer gives logits",
        {"init_weights": False},
        image(299),
    ),
    Row(
        "torchvision",
        "squeezenet1_0",
        {17: 1, 1: 8},
        "the stem, squeeze and the 1x1 expansion (computed before the 3x3 one) of 8 fires; each 3x3 expansion is a "
        "chain of its own; the classifying convolution's ReLU feeds only the output",
    ),
    Row("torchvision", "squeezenet1_1", {17: 1, 1: 8}, "as squeezenet1_0: it pools earlier"),
    Row(
        "torchvision",
        "maxvit_t",
        {2: 11, 1: 23},
        "in each of 2+2+5+2 blocks a gate and two feed-forward parts; the classifier's hidden layer with tanh",
    ),
    Row("torchvision", "fcn_resnet50", {}, "batch norm behind each convolution, in the head too", _BACKBONE),
    Row("torchvision", "deeplabv3_resnet50", {}, "batch norm behind each convolution, in each branch too", _BACKBONE),
    Row(
        "torchvision",
        "lraspp_mobilenet_v3_large",
        {2: 8, 1: 1},
        "8 gates of the backbone, and the head's own gate sigmoid(conv(mean(x)))",
        _BACKBONE,
    ),
    Row("torchvision", "r3d_18", {}, "batch norm behind each convolution", inputs=clip),
    Row("torchvision", "s3d", {}, "batch norm behind each convolution", inputs=clip),
    Row("torchvision", "mvit_v1_b", {1: 16}, "one feed-forward block in each of 16 layers", inputs=clip),
]

TIMM = [
    Row("timm", "vgg11", {10: 1}, "8 convolutions, and the 2 hidden layers as convolutions"),
    Row("timm", "seresnet50", {2: 16}, "a gate in each of 3+4+6+3 blocks"),
    Row("timm", "mixer_s32_224", {1: 16}, "8 layers of two feed-forward parts"),
    Row(
        "timm",
        "gmlp_s16_224",
        {1: 30},
        "fc1 and its GELU in each of 30 layers; half of it is normalized, projected and multiplied by the other half, "
        "a join in which the normalized half is the shorter way",
    ),
    Row("timm", "resmlp_12_224", {1: 12}, "Affine is no norm, but each addition is a way round: fc1 alone"),
    Row(
        "timm",
        "nf_resnet50",
        {3: 1, 2: 15},
        "weights are standardized, activations are not: no norm ends a run. The stem is 1 deep; of each of 16 blocks "
        "conv1 and conv2 reach an activation, conv3 the addition. Every shortcut goes round, so the stem goes on into "
        "the first block, and the others are chains of 2",
    ),
    Row(
        "timm",
        "nf_regnet_b0",
        {4: 1, 3: 15, 1: 1},
        "stem 1; in each of 16 blocks conv1, then the gate's fc1 and fc2: conv2 meets the product before its "
        "activation; final_conv behind the last addition",
    ),
    Row(
        "timm",
        "eca_nfnet_l0",
        {8: 1, 4: 11, 1: 1},
        "stem of 4; in each of 12 blocks conv1, conv2, conv2b, and the convolution of the channel attention behind "
        "conv3, which meets that product first; final_conv behind the last addition",
    ),
    Row(
        "timm",
        "dm_nfnet_f0",
        {9: 1, 5: 11, 1: 1},
        "stem of 4; in each of 12 blocks conv1, conv2, conv2b, and the gate's fc1 and fc2 behind conv3; final_conv",
    ),
    Row("timm", "resnetv2_50x1_bit", {}, "group norm and ReLU before each convolution, so a norm behind each too"),
    Row(
        "timm",
        "resnetv2_50d_evos",
        {},
        "EvoNorm S0, x·sigmoid(v·x) over the group's standard deviation of x, normalizes and activates at once: it "
        "takes the scale of x out. It stands between the convolutions of the stem, and before each in 16 blocks",
    ),
    Row("timm", "regnetz_b16_evos", {2: 22}, "EvoNorm S0 behind each convolution; a gate in each of 2+6+12+2 blocks"),
    Row(
        "timm",
        "ese_vovnet39b_evos",
        {1: 4},
        "EvoNorm S0 behind each convolution; an effective gate of one layer behind the last block of each of 4 stages",
    ),
    Row(
        "timm",
        "convnext_zepto_rms",
        {1: 10},
        "fc1 and its GELU in each of 2+2+4+2 blocks, behind x over its standard deviation, written out; the last of "
        "these is behind the pooling",
    ),
    Row(
        "timm",
        "efficientformerv2_s0",
        {},
        "batch norm behind each convolution, or GELU behind an addition; the heads of attention are mixed by pointwise "
        "convolutions before and after the softmax",
    ),
    Row(
        "timm",
        "cait_xxs24_224",
        {1: 26},
        "24 layers and 2 of class attention; LayerScale is a product with a weight, and "
        "the heads are mixed by linear layers before and after the softmax",
    ),
    Row("timm", "deit3_small_patch16_224", {1: 12}, "12 layers; LayerScale is a product with a weight"),
    Row("timm", "repvgg_a0", {}, "each of the parallel branches ends in batch norm"),
    Row("timm", "hrnet_w18_small", {}, "batch norm behind each convolution, across resolutions too"),
    Row("timm", "ese_vovnet19b_dw", {1: 4}, "batch norm, and 4 effective gates hard_sigmoid(fc(mean(x))) of one layer"),
    Row("timm", "dla34", {}, "batch norm behind each convolution, the roots of the trees too"),
    Row(
        "timm",
        "xcit_nano_12_p16_224",
        {1: 26},
        "in each of 12 layers conv1 of the local interaction (its norm stands behind GELU) and a feed-forward part; "
        "2 layers of class attention",
    ),
    Row("timm", "poolformer_s12", {1: 12}, "one feed-forward block in each of 12 layers; pooling mixes tokens"),
    Row(
        "timm",
        "focalnet_tiny_srf",
        {2: 12, 1: 12},
        "in each of 12 layers the two focal convolutions with GELU, one after the other, and a feed-forward part",
    ),
    Row("timm", "ghostnet_100", {2: 7, 1: 1}, "batch norm; 7 gates; conv_head has an activation and no norm"),
    Row("timm", "edgenext_xx_small", {1: 12}, "one feed-forward block in each of 2+2+6+2 layers"),
    Row("timm", "maxvit_tiny_tf_224", {2: 11, 1: 23}, "as torchvision's maxvit_t"),
    Row(
        "timm",
        "coatnet_0_rw_224",
        {2: 5, 1: 9},
        "a gate in each of 2+3 convolutional blocks, a feed-forward part in each of 7+2 transformer blocks",
    ),
    Row("timm", "levit_128s", {}, "batch norm behind each linear layer and convolution"),
    Row("timm", "tresnet_m", {2: 18}, "a gate in each block of the first three stages, 3+4+11"),
    Row("timm", "hardcorenas_a", {2: 8, 1: 1}, "8 gates; conv_head has an activation and no norm"),
    Row("timm", "selecsls42b", {}, "batch norm behind each convolution"),
    Row(
        "timm",
        "pvt_v2_b0",
        {1: 8},
        "in each of 8 layers the depthwise convolution between fc1 and GELU: fc1 reaches no activation",
    ),
    Row("timm", "convmixer_768_32", {1: 65}, "GELU, then batch norm, behind the stem and both layers of 32 blocks"),
    Row(
        "timm",
        "convnextv2_atto",
        {1: 12},
        "fc1 and its GELU in each of 2+2+6+2 blocks, behind a layer norm; x times a ratio of its norms is a gate",
    ),
]

TRANSFORMERS = [
    Row("transformers", "BertForMaskedLM", {1: 3}, "2 layers, and the head's transform in front of its norm", _ENCODER),
    Row(
        "transformers",
        "DistilBertForMaskedLM",
        {1: 3},
        "2 layers, and vocab_transform in front of its norm",
        {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    ),
    Row(
        "transformers",
        "ElectraForPreTraining",
        {1: 3},
        "2 layers, and the hidden layer of the discriminator's head",
        _ENCODER | {"embedding_size": 32},
    ),
    Row(
        "transformers",
        "AlbertForMaskedLM",
        {1: 3},
        "one layer called twice, with a norm behind it each time, and the head's transform in front of its norm",
        _ENCODER | {"embedding_size": 32},
    ),
    Row(
        "transformers",
        "FNetForMaskedLM",
        {1: 3},
        "2 layers and the head's transform; the Fourier transform ends the run, and a norm follows",
        {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64},
        not_analyzed="fft",
    ),
    Row(
        "transformers",
        "ModernBertForMaskedLM",
        {1: 3},
        "2 layers with act(input)·gate, halves of one call: an activation; the head's dense in front of its norm",
        _ENCODER | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    ),
    Row(
        "transformers",
        "GPT2LMHeadModel",
        {1: 2},
        "2 layers; its Conv1D is a product with a weight, its GELU is spelled out",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
    ),
    Row("transformers", "GPTNeoXForCausalLM", {1: 2}, "2 layers, attention and feed-forward in parallel", _ENCODER),
    Row("transformers", "LlamaForCausalLM", {1: 2}, "2 layers with a gated feed-forward part", _DECODER),
    Row(
        "transformers",
        "Qwen3ForCausalLM",
        {1: 2},
        "as Llama, with norms on queries and keys",
        _DECODER | {"head_dim": 16},
    ),
    Row(
        "transformers",
        "GemmaForCausalLM",
        {1: 2},
        "as Llama; the norm is multiplied by 1 + weight",
        _DECODER | {"head_dim": 16},
    ),
    Row("transformers", "OlmoForCausalLM", {1: 2}, "as Llama; layer norm without parameters", _DECODER),
    Row("transformers", "Olmo2ForCausalLM", {1: 2}, "the norm stands behind each part, before the addition", _DECODER),
    Row("transformers", "NemotronForCausalLM", {1: 2}, "2 layers with squared ReLU", _DECODER),
    Row(
        "transformers",
        "MixtralForCausalLM",
        {1: 8},
        "act(gate)·up of each of 4 experts in 2 layers, halves of one call: an activation",
        _DECODER | {"num_local_experts": 4, "experts_implementation": "eager"},
        lambda model: torch.arange(64).view(2, 32),
        not_analyzed="topk",
        device="cpu",
    ),
    Row(
        "transformers",
        "FalconForCausalLM",
        {1: 2},
        "2 layers, attention and feed-forward in parallel",
        _SMALL | {"ffn_hidden_size": 64},
    ),
    Row(
        "transformers",
        "BloomForCausalLM",
        {},
        "its GELU is a custom autograd function, at which the run ends",
        {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 2},
        not_analyzed="custom autograd function",
    ),
    Row(
        "transformers",
        "OPTForCausalLM",
        {1: 2},
        "2 layers",
        _SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 32},
    ),
    Row(
        "transformers",
        "T5ForConditionalGeneration",
        {1: 4},
        "wi and its ReLU in each of 2 layers of encoder and decoder, behind a root-mean-square norm",
        {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
        lambda model: {"input_ids": tokens(model), "decoder_input_ids": tokens(model)},
    ),
    Row(
        "transformers",
        "MambaForCausalLM",
        {2: 2, 1: 2},
        "in each of 2 layers conv1d with SiLU, then dt_proj with softplus; in_proj reaches SiLU through its gate half, "
        "and has no activation on its way to conv1d",
        {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    ),
    Row(
        "transformers",
        "RwkvForCausalLM",
        {1: 8},
        "in each of 2 layers the receptance and the key of attention (the key goes through exp alone) and of the "
        "feed-forward part; products with the values are joins",
        {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 32},
    ),
    Row(
        "transformers",
        "Wav2Vec2Model",
        {6: 1, 1: 3},
        "the first of 7 convolutions of the feature encoder has a norm, the other 6 have GELU alone; then a norm, the "
        "positional convolution with GELU, and 2 layers",
        _ENCODER
        | {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        | {"apply_spec_augment": False, "layerdrop": 0.0},
        lambda model: torch.empty(2, 16000),
    ),
    Row(
        "transformers",
        "WhisperForConditionalGeneration",
        {2: 1, 1: 4},
        "the two convolutions of the stem; 2 layers of encoder and of decoder",
        {"vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
        | {"max_source_positions": 32, "max_target_positions": 32, "num_mel_bins": 16}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
        lambda model: {"input_features": torch.empty(2, 16, 64), "decoder_input_ids": tokens(model)},
    ),
]

HERE = [
    Row(
        "here",
        "UNet",
        {10: 1, 2: 4},
        "2 blocks on each of 5 levels down; at each concatenation on the way up the skip is the shorter way, so that "
        "each level up is a chain of 2, and the deepest level, computed first, keeps the run",
    ),
]

ROWS = [*TORCHVISION, *TIMM, *TRANSFORMERS, *HERE]
