"""One thread for every test: the models are small, and figures must not hang on how sums are split among threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# `pytest --hypothesis-profile=long` tries ten times as many random models.
settings.register_profile("long", max_examples=1000, print_blob=True)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
