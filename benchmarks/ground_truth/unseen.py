"""The second half of the families: other architectures, activations, initializations and data than those on which the
thresholds were first chosen."""

from __future__ import annotations

from ground_truth.family import CONV_DEPTHS, MANY, SOUND, Family

UNIFORM = ("he uniform", "glorot uniform", "lecun uniform", "truncated0.02", "uniform0.05", "he*2", "he/30")
ODD = ("elu", "mish", "hardswish", "hardtanh", "softsign", "prelu")
DRAWN = ("default", "glorot", "he", "orthogonal", "he/10", "he*3", "truncated0.02", "uniform0.05")
FLAT = ("digits", "moons", "blobs", "wine")
SHALLOW = (2, 3, 5, 8, 12)

UNSEEN = (
    Family("elu and prelu mlp", activations=("elu", "prelu"), data=FLAT),
    Family("softsign and hardtanh mlp", activations=("softsign", "hardtanh"), data=FLAT),
    Family("mish and hardswish mlp", activations=("mish", "hardswish"), data=FLAT),
    Family("relu mlp, uniform weights", inits=UNIFORM, data=FLAT),
    Family("tanh mlp, uniform weights", activations=["tanh"], inits=UNIFORM, data=FLAT),
    Family("sigmoid mlp, few blocks", activations=["sigmoid"], depths=(1, 2, 3, 4, 5), data=FLAT),
    Family("softplus conv", "conv", activations=["softplus"], depths=CONV_DEPTHS),
    Family("exp and softplus mlp", activations=("exp", "softplus"), depths=(2, 3, 4, 5), data=FLAT),
    Family("silu and mish conv", "conv", activations=("silu", "mish"), depths=CONV_DEPTHS, inits=DRAWN),
    Family("narrowing mlp", "pyramid", activations=MANY, widths=(64, 128, 256, 512), inits=DRAWN, data=FLAT),
    Family("strided conv", "strided", activations=("relu", "gelu", "leaky", "elu"), depths=CONV_DEPTHS, inits=DRAWN),
    Family("strided conv, bounded", "strided", activations=("tanh", "sigmoid", "softsign"), depths=CONV_DEPTHS),
    Family("conv along rows", "signal", activations=(*MANY, *ODD), depths=CONV_DEPTHS, inits=DRAWN),
    Family("dense mlp", "dense", activations=MANY, depths=(2, 4, 8, 16), widths=(8, 16, 32), inits=DRAWN, data=FLAT),
    Family(
        "dense mlp with norm", "dense", activations=MANY, depths=(2, 4, 8, 16), widths=(8, 16, 32), norms=("bn", "ln"),
        inits=DRAWN, data=FLAT,
    ),
    Family("gated mlp", "gated", activations=("sigmoid", "silu", "gelu", "relu"), inits=DRAWN, data=FLAT),
    Family(
        "residual mlp, norm behind the sum", "postnorm", activations=MANY, depths=(2, 4, 8, 16), norms=("ln", "bn"),
        inits=DRAWN, data=FLAT,
    ),
    Family("residual mlp, odd activations", "resmlp", activations=ODD, depths=(2, 4, 8, 16), data=FLAT),
    Family(
        "residual mlp with zero head", "resmlp", activations=MANY, depths=(2, 4, 8), norms=("none", "ln"), inits=SOUND,
        traps=("none", "zero head"), data=FLAT,
    ),
    Family(
        "transformer", "attention", activations=("gelu", "relu", "silu"), depths=(1, 2, 4, 8), widths=(16, 32, 64),
        norms=("ln", "rms", "none"), inits=DRAWN, data=["digits"],
    ),
    Family(
        "transformer, norms behind", "attention-post", activations=("gelu", "relu"), depths=(1, 2, 4, 8),
        widths=(16, 32, 64), norms=["ln"], inits=DRAWN, data=["digits"],
    ),
    Family(
        "mixer", "mixer", activations=("gelu", "relu", "tanh"), depths=(1, 2, 4, 8), widths=(16, 32, 64),
        norms=("ln", "none"), inits=DRAWN, data=["digits"],
    ),
    Family(
        "recurrent", "recurrent", activations=("tanh", "relu", "sigmoid"), depths=(1, 2, 4), widths=(16, 32, 64),
        inits=DRAWN, data=["digits"],
    ),
    Family(
        "recurrent, 32 steps", "recurrent-long", activations=("tanh", "relu", "sigmoid"), depths=(1, 2),
        widths=(16, 32, 64), inits=DRAWN, data=["digits"],
    ),
    Family("mlp with weight norm", activations=(*MANY, *ODD), traps=["weight norm"], inits=DRAWN, data=FLAT),
    Family("mlp without biases", activations=(*MANY, *ODD), traps=["no biases"], inits=DRAWN, data=FLAT),
    Family("norms behind the activations", "norm-behind", activations=MANY, norms=("bn", "ln"), data=FLAT),
    Family("one norm", "norm-once", activations=MANY, norms=("bn", "ln", "rms"), inits=DRAWN, data=FLAT),
    Family(
        "dropout and norm", activations=(*MANY, *ODD), inits=SOUND, norms=("none", "bn", "ln"),
        dropouts=(0.2, 0.4, 0.6), data=FLAT,
    ),
    Family(
        "biases, other activations", activations=("elu", "gelu", "selu", "softsign", "mish"), inits=SOUND,
        depths=SHALLOW, data=FLAT,
        traps=("biases -1", "biases -10", "biases +10", "one layer's biases -100", "first biases -3"),
    ),
    Family(
        "raw data", activations=(*MANY, *ODD), inits=SOUND, depths=SHALLOW, norms=("none", "none", "bn", "ln"),
        data=("raw wine", "raw cancer", "raw digits"),
    ),
    Family(
        "inputs of another scale", activations=("relu", "tanh", "gelu", "sigmoid", "elu"), inits=SOUND, depths=SHALLOW,
        norms=("none", "bn", "ln"), scales=(1e-5, 1e-3, 1e3, 1e5), shifts=(0.0, 0.0, 30.0), data=FLAT,
    ),
)  # fmt: skip
