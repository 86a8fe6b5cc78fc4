"""What a torch function mode does not see, routed to the recorder while it records: calls of leaf modules, custom
autograd functions, scripted functions, autocast regions, new parameters, and tensors bound to attributes of modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.amp import autocast_mode
from torch.utils.hooks import BackwardHook

from gradcheck_tool.capturing.ledger import ValueRead

if TYPE_CHECKING:
    from gradcheck_tool.capturing.recorder import Recorder


@contextmanager
def intercepted(recorder: Recorder) -> Iterator[None]:
    """Sends to `recorder` what its function mode does not see."""
    # Not `__call__`: to change what Python keeps in a slot of a class costs time for each class that inherits from it.
    module_call = nn.Module._call_impl
    set_attribute, register = nn.Module.__setattr__, nn.Module.register_parameter
    new_parameter = nn.Parameter.__new__
    call_scripted = torch.jit.ScriptFunction.__dict__["__call__"]
    # Beneath Function.apply, which may have been bound to another name before (`double = Double.apply`).
    function_base: Any = torch.autograd.function._SingleLevelFunction
    enter: Any = autocast_mode.autocast.__enter__
    leave: Any = autocast_mode.autocast.__exit__
    open_regions: list[fx.Node] = []
    grad_modes: list[bool] = []
    enter_inference, leave_inference = torch.inference_mode.__enter__, torch.inference_mode.__exit__
    hook_inputs, hook_outputs = BackwardHook.setup_input_hook, BackwardHook.setup_output_hook

    def call_module(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not recorder.listening:
            return module_call(self, *args, **kwargs)  # type: ignore[no-untyped-call]
        if recorder.takes(self):
            return recorder.call_leaf(self, module_call, args, kwargs)
        return recorder.enter(self, module_call, args, kwargs)

    def __setattr__(self: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and recorder.listening:
            recorder.note_assignment(self, name, value)
        elif name == "training" and recorder.listening:
            recorder.note_mode(self, value)
        if name != "training" and recorder.listening:
            recorder.note_attribute(value)
        set_attribute(self, name, value)

    def register_parameter(self: nn.Module, name: str, param: Any) -> None:
        recorder.note_binding(self, name)
        register(self, name, param)

    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        parameter = new_parameter(cls, *args, **kwargs)
        if recorder.listening and cls is nn.Parameter:
            recorder.note_parameter(parameter, args, kwargs)
        return parameter

    def call_scripted_function(self: Any, *args: Any, **kwargs: Any) -> Any:
        run: Any = call_scripted.__get__(self, type(self))
        return recorder.call_opaque(self, "__call__", run, args, kwargs) if recorder.listening else run(*args, **kwargs)

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        run = super(function_base, cls).apply
        return recorder.call_function_class(cls, run, args, kwargs) if recorder.listening else run(*args, **kwargs)

    def __enter__(self: Any) -> Any:
        if recorder.listening:
            if recorder.on_meta and self._enabled:
                raise ValueRead("autocast casts nothing on meta, where the dtypes that forward reads would be wrong")
            settings = (self.device, self.fast_dtype, self._enabled, self._cache_enabled)
            open_regions.append(recorder.side_effect(autocast_mode._enter_autocast, settings))
        return enter(self)

    def __exit__(self: Any, *exception: Any) -> Any:
        if recorder.listening and open_regions:
            recorder.side_effect(autocast_mode._exit_autocast, (open_regions.pop(),))
        return leave(self, *exception)

    def enter_inference_mode(self: Any) -> Any:
        outer = torch.is_grad_enabled()
        entered = enter_inference(self)
        if recorder.listening:
            recorder.side_effect(torch._C._set_grad_enabled, (torch.is_grad_enabled(),))
            grad_modes.append(outer)
        return entered

    def leave_inference_mode(self: Any, *exception: Any) -> Any:
        left = leave_inference(self, *exception)
        if recorder.listening and grad_modes:
            recorder.side_effect(torch._C._set_grad_enabled, (grad_modes.pop(),))
        return left

    def setup_input_hook(self: Any, args: Any) -> Any:
        run: Any = hook_inputs.__get__(self)
        return recorder.call_hook(self, "setup_input_hook", run, args) if recorder.listening else run(args)

    def setup_output_hook(self: Any, args: Any) -> Any:
        run: Any = hook_outputs.__get__(self)
        return recorder.call_hook(self, "setup_output_hook", run, args) if recorder.listening else run(args)

    replaced: list[tuple[Any, str, Any, Any]] = [
        (nn.Module, "_call_impl", call_module, module_call),
        (nn.Module, "__setattr__", __setattr__, set_attribute),
        (nn.Module, "register_parameter", register_parameter, register),
        (nn.Parameter, "__new__", staticmethod(__new__), staticmethod(new_parameter)),
        (torch.jit.ScriptFunction, "__call__", call_scripted_function, call_scripted),
        (autocast_mode.autocast, "__enter__", __enter__, enter),
        (autocast_mode.autocast, "__exit__", __exit__, leave),
        (torch.inference_mode, "__enter__", enter_inference_mode, enter_inference),
        (torch.inference_mode, "__exit__", leave_inference_mode, leave_inference),
        (BackwardHook, "setup_input_hook", setup_input_hook, hook_inputs),
        (BackwardHook, "setup_output_hook", setup_output_hook, hook_outputs),
    ]
    try:
        for owner, name, ours, _ in replaced:
            setattr(owner, name, ours)
        function_base.apply = classmethod(apply)
        yield
    finally:
        if "apply" in vars(function_base):
            del function_base.apply  # it inherits its own
        for owner, name, _, theirs in replaced:
            setattr(owner, name, theirs)
