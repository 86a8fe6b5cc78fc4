"""TARGET, as typed on the command line → `Subject`: a model, its inputs, and where its modules were constructed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck_tool.inputs import Inputs
from gradcheck_tool.results import Location, Target

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Subject:
    """Everything that the verbs need to know of what they look at."""

    model: nn.Module
    inputs: Inputs
    target: Target
    loss_fn: Callable[[Any, Any], Any] | None = None
    targets: Any = None
    births: Mapping[str, Location] = field(default_factory=dict)
    """Where each submodule was constructed, by its qualified name; only those that were seen."""
