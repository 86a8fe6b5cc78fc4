"""Imports public collections of models, also where torchvision's compiled operators do not load: PyPI has them for CUDA
only, and timm and transformers import torchvision."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def imported(name: str) -> Any:
    """The package of that name: timm, torchvision or transformers."""
    here = str(Path(__file__).parent.parent / "tests" / "zoo")
    if here not in sys.path:
        sys.path.append(here)
    importlib.import_module("torchvision_operators").provide()
    return importlib.import_module(name)
