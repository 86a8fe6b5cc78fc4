"""Everything that a model may draw from, started from one seed."""

from __future__ import annotations

import random
import sys

import torch


def seed_all(seed: int) -> None:
    """Seeds all that a model may draw from: torch, on every device that was started, Python, and numpy where it is
    loaded. Use inside `preserved`."""
    # torch.manual_seed would also leave word, with a formatted stack, for each kind of device that was never started.
    torch.default_generator.manual_seed(seed)
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            device.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
