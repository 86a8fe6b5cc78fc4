"""What a model is run with: an example, a size, a specification as typed, or what the model itself carries.

Each becomes one `Inputs`; what its first layers tell is read off in `infer`.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_tool.border import users_code
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.inputs.draw import draw, embedding_sizes, float_dtype, model_device, redrawn
from gradcheck_tool.results import InputSpec, Origin
from gradcheck_tool.structures import holds_tensor, map_tensors, parts, tensors_in

BATCH = 32
"""The batch size where gradtool chooses it."""

GRAMMAR = "an input is given as [NAME=]DIMxDIM…[:DTYPE], as in --input 32x784 or --input ids=8x128:int64"
_SPEC = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<dims>\d+(?:[xX×]\d+)*)(?::(?:torch\.)?(?P<dtype>\w+))?")


@dataclass(frozen=True)
class Inputs:
    """The arguments of one forward pass: `model(*args, **kwargs)`.

    `origin` says where they come from; `note` says it to a person. `free_batch` is True where the batch size was
    chosen by gradtool, so that it may choose another.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = "option"
    note: str | None = None
    free_batch: bool = False

    @property
    def tensors(self) -> list[Tensor]:
        """All that the arguments hold, in order."""
        return list(tensors_in((self.args, dict(self.kwargs))))


def for_model(
    model: nn.Module,
    example: Any = None,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> Inputs:
    """The inputs for `model`: `example` if there is one, else tensors of `input_size`, else what the model carries,
    else what is inferred from its layers.

    Raises:
        GradtoolError: both are given, the one given cannot be used, or nothing can be inferred.
    """
    from gradcheck_tool.inputs.infer import infer

    if example is not None and input_size is not None:
        raise GradtoolError("both an example and an input_size are given", hint="give one of the two")
    if example is not None:
        return from_example(example)
    if input_size is not None:
        return from_size(model, input_size, seed)
    return carried(model, seed) or infer(model, seed)


def from_example(
    value: Any, origin: Origin = "option", note: str | None = None, called: str = "example_inputs"
) -> Inputs:
    """A tensor is the one argument, a tuple the arguments, a dict (any mapping) the keyword arguments, `Inputs` pass
    through; anything else (a list, a named tuple, a dataclass) is the one argument.

    Raises:
        GradtoolError: there is no tensor in it.
    """
    if isinstance(value, Inputs):
        return value
    if not holds_tensor(value) and _is_plain(value):
        raise GradtoolError(
            f"{called} is a {type(value).__name__} without a tensor in it",
            hint="a tensor is the one argument, a tuple the arguments, a dict the keyword arguments",
        )
    if isinstance(value, Mapping):
        return Inputs((), dict(value), origin, note)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return Inputs(value, {}, origin, note)
    return Inputs((value,), {}, origin, note)


def from_size(model: nn.Module, size: Sequence[int] | Sequence[Sequence[int]], seed: int = 0) -> Inputs:
    """Random tensors of one size, `(32, 784)`, or of several, `[(32, 784), (32, 10)]`, batch included: floats, or token
    ids where the model takes nothing else.

    Raises:
        GradtoolError: a size is empty or not made of positive integers.
    """
    several = bool(size) and all(isinstance(one, Sequence) and not isinstance(one, str) for one in size)
    sizes: list[Any] = list(size) if several else [size]
    for one in sizes:
        if not one or not all(isinstance(dim, int) and dim > 0 for dim in one):
            raise GradtoolError(
                f"input_size is {size!r}", hint="give positive integers, the batch first, as in input_size=(32, 784)"
            )
    return _drawn(model, [(None, tuple(one), None) for one in sizes], seed, "input_size")


def from_specs(model: nn.Module, specs: Sequence[str], seed: int = 0) -> Inputs:
    """Random tensors as `--input` describes them; those without a name are positional, in the order given.

    Raises:
        GradtoolError: a spec does not follow the grammar, or `forward` has no such arguments.
    """
    parsed = [_parse(spec) for spec in specs]
    names = [name for name, _, _ in parsed if name]
    for name in names:
        if names.count(name) > 1:
            raise GradtoolError(f"--input {name}=… is given twice", hint="give each input once")
    _check_call(model, sum(name is None for name, _, _ in parsed), names)
    return _drawn(model, parsed, seed, "--input")


def carried(model: nn.Module, seed: int = 0) -> Inputs | None:
    """What the model itself carries, None where it carries nothing that fits: Lightning's `example_input_array`,
    transformers' `dummy_inputs`, the `input_size` of timm's `default_cfg`."""
    device = model_device(model)
    for attribute in ("example_input_array", "dummy_inputs"):
        with users_code(f"reading {attribute} of {type(model).__name__}"):
            value = getattr(model, attribute, None)
        # transformers' base class offers token ids for every model, images or not
        if value is None or (isinstance(value, Mapping) and not value.keys() <= _parameters(model).keys()):
            continue
        found = from_example(value, "model", f"the model's {attribute}", attribute)
        return moved(found, device)
    config = getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else getattr(config, "input_size", None)
    if isinstance(size, Sequence) and size and all(isinstance(dim, int) for dim in size):
        drawn = _drawn(model, [(None, (BATCH, *size), float_dtype(model))], seed, "")
        return replace(drawn, origin="model", note="the model's default_cfg['input_size']", free_batch=True)
    return None


def describe(model: nn.Module, inputs: Inputs) -> tuple[InputSpec, ...]:
    """One line per tensor, named after the parameter of `forward` that takes it: `x`, `ids['mask']`, `pair[0]`."""
    named: dict[str, Any] = dict(zip(_positional_names(model, len(inputs.args)), inputs.args, strict=True))
    return tuple(
        InputSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), inputs.origin, inputs.note)
        for argument, value in (*named.items(), *inputs.kwargs.items())
        for name, tensor in _named_tensors(argument, value)
    )


def batch_size(inputs: Inputs) -> int | None:
    """The first dimension that the tensors share; None where there is none. Scalars have no say."""
    sizes = [tensor.shape[0] for tensor in inputs.tensors if tensor.ndim]
    if len(set(sizes)) == 1 or (sizes and inputs.free_batch):  # where gradtool chose it, the first tensor has it
        return sizes[0]
    return None


def resized(inputs: Inputs, batch: int, seed: int = 0) -> Inputs:
    """`inputs` at another batch size: every tensor whose first dimension is the batch is drawn again, floats with the
    same mean and standard deviation, integers in the same range, rows of booleans repeated; the rest stays.

    Without a batch dimension, `inputs` themselves.
    """
    old = batch_size(inputs)
    if old is None or old == batch:
        return inputs
    generator = torch.Generator().manual_seed(seed)

    def resize(tensor: Tensor) -> Tensor:
        return redrawn(tensor, batch, generator) if tensor.ndim and tensor.shape[0] == old else tensor

    return mapped(inputs, resize)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """`inputs` with every tensor on `device`."""
    return mapped(inputs, lambda tensor: tensor.to(device))


def mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """`inputs` with `change(tensor)` in the place of each tensor."""
    kwargs = {name: map_tensors(value, change) for name, value in inputs.kwargs.items()}
    return replace(inputs, args=tuple(map_tensors(value, change) for value in inputs.args), kwargs=kwargs)


def _named_tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in `value`, with the expression that leads to it from `name`."""
    if isinstance(value, Tensor):
        yield name, value
    for access, key, part in parts(value):
        yield from _named_tensors(f"{name}.{key}" if access is getattr else f"{name}[{key!r}]", part)


def _is_plain(value: Any) -> bool:
    """Whether `value` is made of numbers, strings, None and numpy arrays: no object that may hold a tensor unseen."""
    plain = value is None or isinstance(value, (int, float, complex, str, bytes)) or type(value).__module__ == "numpy"
    container = isinstance(value, (tuple, list, Mapping)) or is_dataclass(value)
    return plain or (container and all(_is_plain(part) for _, _, part in parts(value)))


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of `forward`; none where it has no readable signature."""
    try:
        return inspect.signature(model.forward).parameters
    except (ValueError, TypeError):
        return {}


def _positional_names(model: nn.Module, count: int) -> list[str]:
    names: list[str] = []
    for name, parameter in _parameters(model).items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{at}]" for at in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(name)
    return (names + [f"input{at}" for at in range(len(names), count)])[:count]


def _parse(spec: str) -> tuple[str | None, tuple[int, ...], torch.dtype | None]:
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise GradtoolError(f"--input '{spec}' cannot be read", hint=GRAMMAR)
    dims = tuple(int(dim) for dim in re.split("[xX×]", match["dims"]))
    if 0 in dims:
        raise GradtoolError(
            f"--input '{spec}' has a dimension of 0", hint="every dimension, the batch first, is at least 1"
        )
    return match["name"], dims, _dtype(match["dtype"], spec) if match["dtype"] else None


def _dtype(name: str, spec: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if isinstance(found, torch.dtype):
        return found
    known = [known for known, value in vars(torch).items() if isinstance(value, torch.dtype)]
    near = difflib.get_close_matches(name, known, n=1)
    raise GradtoolError(
        f"--input '{spec}' names no dtype of torch: {name}",
        hint=f"did you mean {near[0]}?" if near else "float32, float64, bfloat16, int64 and bool are some",
    )


def _check_call(model: nn.Module, positional: int, names: Sequence[str]) -> None:
    """That `forward` can be called with so many positional arguments and these names."""
    parameters = _parameters(model)
    if not parameters:
        return
    accepts_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in names:
        if name not in parameters and not accepts_all:
            near = difflib.get_close_matches(name, parameters, n=1) or list(parameters)
            raise GradtoolError(
                f"forward of {type(model).__name__} has no argument {name}",
                hint=f"it takes {', '.join(parameters)}; did you mean {near[0]}?",
            )
    try:
        inspect.signature(model.forward).bind(*[None] * positional, **dict.fromkeys(names))
    except TypeError as error:
        example = " ".join(f"--input {name}=DIMxDIM" for name, p in parameters.items() if p.default is p.empty)
        raise GradtoolError(
            f"forward of {type(model).__name__} takes ({', '.join(parameters)}): {error}",
            hint=f"give one --input for each, as in {example}" if example else GRAMMAR,
        ) from error


def _drawn(
    model: nn.Module, wanted: Sequence[tuple[str | None, tuple[int, ...], torch.dtype | None]], seed: int, note: str
) -> Inputs:
    """Random tensors by (name, size, dtype). Where no dtype is given it is the model's floating one, or int64 where the
    model reads tokens: where it has embeddings, and floats do not pass but integers do."""
    from gradcheck_tool.inputs.trial import passes

    def make(integers: bool) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        args, kwargs = [], {}
        positional = iter(_positional_names(model, len(wanted)))
        unsaid = torch.int64 if integers else float_dtype(model)
        for name, size, dtype in wanted:
            value = draw(model, size, dtype or unsaid, generator, name or next(positional))
            if name is None:
                args.append(value)
            else:
                kwargs[name] = value
        return Inputs(tuple(args), kwargs, "option", note)

    floats = make(integers=False)
    if all(dtype is not None for _, _, dtype in wanted) or not embedding_sizes(model) or passes(model, floats):
        return floats
    tokens = make(integers=True)
    return tokens if passes(model, tokens) else floats
