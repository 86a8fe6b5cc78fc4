"""Everything that a model may draw from, started from one seed."""

from __future__ import annotations

import random
import sys

import torch


def seed_all(seed: int) -> None:
    """Seeds all that a model may draw from: torch, Python, and numpy where it is loaded. Use inside `preserved`."""
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
