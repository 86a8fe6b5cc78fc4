"""gradtool: static analysis and diagnostics for the gradients of PyTorch models, before training.

The face: four verbs, `capture`, and the values that they return. Nothing else is public; nothing is imported until it
is asked for, so that `import gradcheck_tool` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradcheck_tool._version import __version__

if TYPE_CHECKING:
    from gradcheck_tool.api import audit, capture, check, fix, probe
    from gradcheck_tool.errors import GradientHealthError, GradtoolError
    from gradcheck_tool.results import (
        AuditReport,
        Chain,
        Finding,
        FixResult,
        GradientProfile,
        InputSpec,
        Insertion,
        LayerGradient,
        Location,
        ProbeReport,
        Skip,
        Unanalyzed,
    )

__all__ = [
    "AuditReport",
    "Chain",
    "Finding",
    "FixResult",
    "GradientHealthError",
    "GradientProfile",
    "GradtoolError",
    "InputSpec",
    "Insertion",
    "LayerGradient",
    "Location",
    "ProbeReport",
    "Skip",
    "Unanalyzed",
    "__version__",
    "audit",
    "capture",
    "check",
    "fix",
    "probe",
]

_VERBS = frozenset({"audit", "capture", "check", "fix", "probe"})
_ERRORS = frozenset({"GradientHealthError", "GradtoolError"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "api" if name in _VERBS else "errors" if name in _ERRORS else "results"
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
