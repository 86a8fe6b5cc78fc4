"""One table: which call is a weight layer, an activation, a normalization, a passing op or a join.

A node is looked up by the class of its module, or by the name of its function or method (`F.relu`, `torch.relu`,
`x.relu_()` are all `relu`). What a node is may hang on its operands too (`x + 1` passes, `x + y` joins): the kinds
`SUM`, `PRODUCT` and `CONTRACTION` leave that to the walk over the graph, which knows what depends on the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from torch import fx, nn
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
    LOSS = auto()  # a loss computed in forward: nothing goes on behind it
    CUT = auto()  # detach: no gradient goes back
    DISCRETE = auto()  # comparisons, argmax, fills: no gradient goes back
    ASSIGN = auto()  # x[i] = y, x.data = y
    CONSTANT = auto()  # sizes and the like: no tensor
    OTHER = auto()  # not understood


_WORDS = {
    Kind.ACTIVATION: """
        relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish hardtanh hardsigmoid hardswish hardshrink
        softshrink tanhshrink threshold softplus softsign logsigmoid log_sigmoid sigmoid tanh glu exp exp2 expm1 log
        log1p log2 log10 abs absolute __abs__ square sqrt rsqrt reciprocal sin cos tan asin arcsin acos arccos atan
        arctan sinh cosh asinh arcsinh acosh arccosh atanh arctanh sinc erf erfc erfcx erfinv expit logit clamp clip
        clamp_min clamp_max fmod remainder __mod__ __rmod__ sign sgn round floor ceil frac fix trunc copysign
        heaviside angle gammaln lgamma digamma psi polygamma multigammaln mvlgamma i0 i0e i1 i1e ndtr ndtri log_ndtr
        entr logaddexp logaddexp2 hypot atan2 arctan2 xlogy xlog1py zeta igamma igammac gammainc gammaincc nextafter
        floor_divide __floordiv__ __rfloordiv__ __rpow__ bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_i0
        modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0 scaled_modified_bessel_k1
        spherical_bessel_j0 airy_ai""",
    Kind.NORMALIZATION: """
        batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm normalize native_batch_norm
        native_layer_norm native_group_norm native_channel_norm cudnn_batch_norm miopen_batch_norm""",
    Kind.PASSING: """
        flatten reshape reshape_as view view_as permute transpose t swapaxes swapdims movedim moveaxis squeeze
        unsqueeze expand expand_as repeat tile repeat_interleave contiguous clone to type type_as float half double
        bfloat16 cfloat cdouble chalf cpu cuda xpu pin_memory getitem select narrow narrow_copy index_select gather
        take take_along_dim chunk split split_with_sizes tensor_split hsplit vsplit dsplit unbind unflatten unfold
        as_strided ravel roll flip fliplr flipud rot90 diagonal diag diag_embed diagflat tril triu dropout dropout1d
        dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout native_dropout identity masked_fill
        masked_select nan_to_num neg negative positive __neg__ __pos__ requires_grad deg2rad rad2deg real imag conj
        conj_physical resolve_conj resolve_neg view_as_real view_as_complex pixel_shuffle pixel_unshuffle
        native_channel_shuffle channel_shuffle pad constant_pad_nd atleast_1d atleast_2d atleast_3d broadcast_to
        broadcast_tensors meshgrid to_dense coalesce T mT H mH adjoint matrix_H retain_grad alias as_tensor asarray
        share_memory rename refine_names align_to align_as unsafe_chunk unsafe_split unsafe_split_with_sizes
        squeeze_copy unsqueeze_copy expand_copy view_copy alias_copy permute_copy transpose_copy t_copy select_copy
        slice_copy diagonal_copy split_copy unbind_copy detach_copy filled""",
    Kind.MIXING: """
        mean sum nanmean nansum sum_to_size amax amin median nanmedian mode cumsum trace diff avg_pool1d avg_pool2d
        avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
        adaptive_max_pool3d_with_indices lp_pool1d lp_pool2d lp_pool3d fractional_max_pool2d fractional_max_pool3d
        fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d
        interpolate upsample upsample_nearest upsample_bilinear fold grid_sample""",
    Kind.SUM: """
        add sub subtract rsub __add__ __radd__ __sub__ __rsub__ __iadd__ __isub__ cat concat concatenate stack
        hstack vstack dstack column_stack row_stack where lerp addcmul addcdiv maximum minimum fmax fmin scatter
        scatter_add scatter_reduce index_add index_put index_copy index_fill index_reduce masked_scatter copy
        slice_scatter select_scatter diagonal_scatter as_strided_scatter put block_diag cartesian_prod""",
    Kind.PRODUCT: """
        mul multiply __mul__ __rmul__ __imul__ div divide true_divide __truediv__ __rtruediv__ __itruediv__ __rdiv__
        __div__ pow __pow__ __ipow__ float_power ldexp outer ger cross linalg_cross""",
    Kind.CONTRACTION: """
        matmul mm bmm mv dot vdot vecdot linalg_vecdot linalg_matmul linalg_multi_dot inner addmm addmv addbmm
        baddbmm addr einsum tensordot kron __matmul__ __rmatmul__ chain_matmul linear bilinear conv1d conv2d conv3d
        conv_transpose1d conv_transpose2d conv_transpose3d convolution conv_tbc""",
    Kind.ATTENTION: "scaled_dot_product_attention multi_head_attention_forward flex_attention",
    Kind.EMBEDDING: "embedding embedding_bag",
    Kind.STATISTIC: """
        var std var_mean std_mean norm vector_norm linalg_vector_norm linalg_norm native_norm frobenius_norm
        nuclear_norm""",
    Kind.SOFTMAX: "softmax log_softmax softmin _softmax _log_softmax gumbel_softmax",
    Kind.RECURRENT: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    Kind.LOSS: """
        binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss
        gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss linear_cross_entropy margin_ranking_loss
        mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss poisson_nll_loss
        smooth_l1_loss soft_margin_loss triplet_margin_loss triplet_margin_with_distance_loss""",
    Kind.CUT: "detach data numpy",
    Kind.DISCRETE: """
        eq ne lt le gt ge not_equal less less_equal greater greater_equal __eq__ __ne__ __lt__ __le__ __gt__ __ge__
        isnan isinf isfinite isposinf isneginf isreal isclose isin signbit logical_and logical_or logical_not
        logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor __and__ __or__ __xor__ __invert__ argmax argmin
        argsort argwhere nonzero one_hot bool int long short byte char searchsorted bucketize multinomial bernoulli
        poisson any all unique unique_consecutive zeros_like ones_like full_like empty_like rand_like randn_like
        randint_like new_zeros new_ones new_full new_empty new_tensor count_nonzero histc bincount fill zero normal
        uniform random exponential geometric cauchy log_normal""",
    Kind.ASSIGN: "setitem setattr",
    Kind.CONSTANT: """
        size dim ndim ndimension numel nelement stride storage_offset element_size itemsize nbytes is_floating_point
        is_complex is_contiguous is_cuda is_leaf shape device dtype layout grad_fn get_device choose""",
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
    ((nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d), Kind.SOFTMAX),
    ((nn.Embedding, nn.EmbeddingBag), Kind.EMBEDDING),
    ((RNNBase, RNNCellBase), Kind.RECURRENT),
    ((nn.MultiheadAttention,), Kind.ATTENTION),
    ((nn.AdaptiveLogSoftmaxWithLoss,), Kind.LOSS),
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
    "torch.nn.modules.loss": Kind.LOSS,
}
DIVISIONS = frozenset({"div", "divide", "true_divide", "truediv", "__truediv__", "__itruediv__", "__div__"})
POWERS = frozenset({"pow", "__pow__", "__ipow__", "float_power"})


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
    name = name.partition(".")[0].removeprefix("special_")  # an overload of torch.ops; torch.special
    return name if name.endswith("__") else name.rstrip("_")


def lookup(node: fx.Node, modules: Mapping[str, nn.Module]) -> Operation:
    """What the call of `node` is. Only calls: placeholders, attributes and outputs are none of these kinds."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return Operation(_kind_of_module(module), type(module).__name__.removeprefix("Parametrized"))
    name = operation_name(node)
    kind = _BY_NAME.get(name, Kind.OTHER)
    if node.op == "call_method" and name == "apply":
        return Operation(Kind.OTHER, "a custom autograd function")
    if name in POWERS and len(node.args) > 1 and not isinstance(node.args[1], fx.Node):
        kind = Kind.PASSING if node.args[1] == 1 else Kind.ACTIVATION
    elif name in ("max", "min"):
        kind = _kind_of_maximum(node)
    elif name in ("__rtruediv__", "__rdiv__") or (
        name in DIVISIONS and node.args and not isinstance(node.args[0], fx.Node)
    ):
        kind, name = Kind.ACTIVATION, "reciprocal"  # a number divided by a tensor
    elif kind is Kind.OTHER and isinstance(node.target, type):
        kind = Kind.PASSING  # constructs the structure that the model returns
    return Operation(kind, name)


def _kind_of_maximum(node: fx.Node) -> Kind:
    """`x.max(dim)` pools, `torch.max(x, y)` joins."""
    second = node.args[1] if len(node.args) > 1 else node.kwargs.get("other")
    return Kind.SUM if isinstance(second, fx.Node) and is_tensor(second) else Kind.MIXING


def _kind_of_module(module: nn.Module) -> Kind:
    for classes, kind in _BY_MODULE:
        if isinstance(module, classes):
            return kind
    for base in type(module).__mro__:
        kind_of_file = _BY_MODULE_FILE.get(base.__module__)
        if kind_of_file is not None:
            return kind_of_file
    return Kind.OTHER


def is_tensor(node: fx.Node) -> bool:
    """Whether a node's value is a tensor (and not a size, or a tuple of tensors)."""
    return "shape" in node.meta
