"""One table: which call is a weight layer, an activation, a normalization, a passing op or a join.

A node is looked up by the class of its module, or by the name of its function or method (`F.relu`, `torch.relu`,
`x.relu_()` are all `relu`). What a node is may hang on its operands too (`x + 1` passes, `x + y` joins): the kinds
`SUM`, `PRODUCT` and `CONTRACTION` leave that to chains.py, which knows what depends on the input.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.rnn import RNNBase, RNNCellBase


class Kind(Enum):
    """What a call is to the analysis of gradients."""

    WEIGHT = auto()  # a layer with a weight: Linear, convolutions, Bilinear
    ACTIVATION = auto()  # elementwise and nonlinear
    NORMALIZATION = auto()
    PASSING = auto()  # moves values about, or is linear and elementwise
    MIXING = auto()  # passing, but an element of the result comes of several: pooling, mean, interpolation
    SUM = auto()  # addition, concatenation, selection: joins what depends on the input, else passes
    PRODUCT = auto()  # multiplication and division, likewise
    CONTRACTION = auto()  # matrix products: a weight layer, a join, or a fixed linear map
    ATTENTION = auto()  # a join of queries, keys and values
    EMBEDDING = auto()  # rows of a table, picked by whole numbers
    STATISTIC = auto()  # var, std, norm: part of a normalization, else not understood
    SOFTMAX = auto()
    RECURRENT = auto()  # torch's fused recurrent layers
    CUT = auto()  # detach: no gradient goes back
    DISCRETE = auto()  # comparisons, argmax: no gradient goes back
    ASSIGN = auto()  # x[i] = y
    CONSTANT = auto()  # sizes and the like: no tensor
    OTHER = auto()  # not understood


_WORDS = {
    Kind.ACTIVATION: """
        relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish hardtanh hardsigmoid hardswish hardshrink softshrink
        tanhshrink threshold softplus softsign logsigmoid sigmoid tanh glu exp exp2 expm1 log log1p log2 log10 abs absolute
        __abs__ square sqrt rsqrt reciprocal sin cos tan asin acos atan arctan sinh cosh asinh acosh atanh sinc erf erfc
        erfinv expit logit clamp clip clamp_min clamp_max float_power __rpow__ fmod remainder sign sgn round floor ceil frac
        trunc special_expit special_erf special_erfc special_entr special_log1p hypot ldexp xlogy""",
    Kind.NORMALIZATION: """
        batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm normalize native_batch_norm
        native_layer_norm native_group_norm""",
    Kind.PASSING: """
        flatten reshape reshape_as view view_as permute transpose t swapaxes swapdims movedim moveaxis squeeze unsqueeze
        expand expand_as repeat tile repeat_interleave contiguous clone to type type_as float half double bfloat16 cpu cuda
        getitem select narrow index_select gather take take_along_dim chunk split split_with_sizes tensor_split hsplit
        vsplit unbind unflatten unfold as_strided ravel roll flip fliplr flipud rot90 diagonal diag_embed tril triu
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout identity
        masked_fill masked_select nan_to_num neg negative positive __neg__ __pos__ requires_grad_ real imag conj
        pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle pad constant_pad_nd atleast_1d atleast_2d
        broadcast_to to_dense T mT H mH adjoint copysign retain_grad alias squeeze_copy expand_copy resolve_conj view_copy
        sort_values meshgrid broadcast_tensors rename refine_names align_to unsafe_chunk unsafe_split""",
    Kind.MIXING: """
        mean sum nanmean nansum amax amin max_values median mode cumsum logcumsumexp_linear
        avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
        adaptive_max_pool3d_with_indices lp_pool1d lp_pool2d lp_pool3d fractional_max_pool2d fractional_max_pool3d
        max_unpool1d max_unpool2d max_unpool3d interpolate upsample upsample_nearest upsample_bilinear fold grid_sample
        trace diff""",
    Kind.SUM: """
        add sub subtract rsub __add__ __radd__ __sub__ __rsub__ cat concat concatenate stack hstack vstack dstack
        column_stack row_stack where lerp addcmul addcdiv maximum minimum fmax fmin scatter scatter_add scatter_reduce
        index_add index_put index_copy index_fill masked_scatter logaddexp copy slice_scatter select_scatter
        logaddexp2 dist cdist pairwise_distance cosine_similarity einsum_sum block_diag cartesian_prod""",
    Kind.PRODUCT: """
        mul multiply __mul__ __rmul__ div divide true_divide __truediv__ __rtruediv__ __rdiv__ __div__ pow __pow__
        floor_divide __floordiv__ outer ger cross""",
    Kind.CONTRACTION: """
        matmul mm bmm mv dot vdot inner addmm addmv addbmm baddbmm einsum tensordot kron __matmul__ __rmatmul__ chain_matmul
        linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution conv_tbc""",
    Kind.ATTENTION: "scaled_dot_product_attention multi_head_attention_forward flex_attention",
    Kind.EMBEDDING: "embedding embedding_bag",
    Kind.STATISTIC: "var std var_mean std_mean norm vector_norm linalg_vector_norm linalg_norm frobenius_norm renorm",
    Kind.SOFTMAX: "softmax log_softmax softmin _softmax gumbel_softmax",
    Kind.RECURRENT: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    Kind.CUT: "detach data numpy",
    Kind.DISCRETE: """
        eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ isnan isinf isfinite logical_and logical_or logical_not
        logical_xor bitwise_and bitwise_or bitwise_not __and__ __or__ __invert__ argmax argmin argsort nonzero one_hot
        bool int long short byte char searchsorted bucketize multinomial bernoulli any all unique topk_indices
        zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty
        new_tensor count_nonzero histc bincount""",
    Kind.ASSIGN: "setitem",
    Kind.CONSTANT: "size dim numel stride element_size is_floating_point shape device dtype ndim choose",
}
_BY_NAME = {word: kind for kind, words in _WORDS.items() for word in words.split()}

_BY_MODULE: tuple[tuple[tuple[type, ...], Kind], ...] = (
    (
        (
            *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Bilinear),
            *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        ),
        Kind.WEIGHT,
    ),
    (
        (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d),
        Kind.NORMALIZATION,
    ),
    ((nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.AdaptiveLogSoftmaxWithLoss), Kind.SOFTMAX),
    ((nn.Embedding, nn.EmbeddingBag), Kind.EMBEDDING),
    ((RNNBase, RNNCellBase), Kind.RECURRENT),
    ((nn.MultiheadAttention,), Kind.ATTENTION),
)
_BY_MODULE_FILE = {
    "torch.nn.modules.activation": Kind.ACTIVATION,
    "torch.nn.modules.dropout": Kind.PASSING,
    "torch.nn.modules.padding": Kind.PASSING,
    "torch.nn.modules.flatten": Kind.PASSING,
    "torch.nn.modules.linear": Kind.PASSING,  # Identity
    "torch.nn.modules.pixelshuffle": Kind.PASSING,
    "torch.nn.modules.channelshuffle": Kind.PASSING,
    "torch.nn.modules.pooling": Kind.MIXING,
    "torch.nn.modules.upsampling": Kind.MIXING,
    "torch.nn.modules.fold": Kind.MIXING,
}


@dataclass(frozen=True)
class Operation:
    """A node, looked up: its kind, and the name by which it was found (`relu`, `LeakyReLU`)."""

    kind: Kind
    name: str


def operation_name(node: fx.Node) -> str:
    """The name of a node's function or method, in-place forms under the name of the other: `relu_` is `relu`."""
    if node.op == "call_function" and node.target is getattr:
        return str(node.args[1])
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    inplace = name.endswith("_") and not name.endswith("__")
    return name[:-1] if inplace else name


def lookup(node: fx.Node, modules: Mapping[str, nn.Module]) -> Operation:
    """What the call of `node` is. Only calls: placeholders, attributes and outputs are none of these kinds."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return Operation(_kind_of_module(module), type(module).__name__)
    name = operation_name(node)
    kind = _BY_NAME.get(name, Kind.OTHER)
    if node.op == "call_method" and name == "apply":
        return Operation(Kind.OTHER, "apply of a custom autograd function")
    if name in ("pow", "__pow__") and not isinstance(node.args[1], fx.Node):
        kind = Kind.PASSING if node.args[1] == 1 else Kind.ACTIVATION
    elif name in ("max", "min"):
        kind = _kind_of_maximum(node)
    elif name in ("__rtruediv__", "__rdiv__") or (
        name in ("div", "truediv", "true_divide", "divide") and node.args and not isinstance(node.args[0], fx.Node)
    ):
        kind, name = Kind.ACTIVATION, "reciprocal"  # a number divided by a tensor
    elif kind is Kind.OTHER and node.target in (operator.add, operator.sub, operator.mul, operator.floordiv):
        kind = Kind.CONSTANT  # arithmetic on sizes
    elif kind is Kind.OTHER and isinstance(node.target, type):
        kind = Kind.PASSING  # constructs the structure that the model returns
    return Operation(kind, name)


def _kind_of_maximum(node: fx.Node) -> Kind:
    """`x.max(dim)` pools, `torch.max(x, y)` joins."""
    second = node.args[1] if len(node.args) > 1 else node.kwargs.get("other")
    return Kind.SUM if isinstance(second, fx.Node) and "shape" in second.meta else Kind.MIXING


def _kind_of_module(module: nn.Module) -> Kind:
    for classes, kind in _BY_MODULE:
        if isinstance(module, classes):
            return kind
    for base in type(module).__mro__:
        kind_of_file = _BY_MODULE_FILE.get(base.__module__)
        if kind_of_file is not None:
            return kind_of_file
    return Kind.OTHER


def operands(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values `node` is computed from, in the order of its arguments, each once."""
    return node.all_input_nodes


_WEIGHT_ARGUMENT = {"bilinear": 2, "addmm": 2, "addmv": 1, "addbmm": 2, "baddbmm": 2}
_DATA_ARGUMENT = {"addmm": 1, "addmv": 2, "addbmm": 1, "baddbmm": 1}


def factors(node: fx.Node) -> tuple[list[Any], list[Any]]:
    """(data, weights) of a matrix product or functional layer, by position: `F.linear(x, w)`, `x @ w`, `addmm(b, x, w)`.

    In a plain product either factor may be the weight; both are returned in both lists then.
    """
    name, args, kwargs = operation_name(node), list(node.args), node.kwargs
    if name == "einsum":
        rest = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
        return rest, rest
    if name.startswith(("linear", "conv", "bilinear")) or name in _DATA_ARGUMENT:
        weight_at = _WEIGHT_ARGUMENT.get(name, 1)
        data_at = _DATA_ARGUMENT.get(name, 0)
        weight = kwargs.get("weight", args[weight_at] if len(args) > weight_at else None)
        data = kwargs.get("input", args[data_at] if len(args) > data_at else None)
        return [data, *(args[1:2] if name == "bilinear" else [])], [weight]
    return args[:2], args[:2]


def is_tensor(node: fx.Node) -> bool:
    """Whether a node's value is a tensor (and not a size, or a tuple of tensors)."""
    return "shape" in node.meta


def weight_tensor(module: nn.Module) -> Tensor | None:
    """The weight of a weight layer's module, computed where it is parametrized."""
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) else None
