# SPDX-License-Identifier: Apache-2.0
"""What all tests share. Imports nothing of the backend: Blender's Python has none."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator

import pytest

# Tokens of servers that tests start must not lie among the user's own.
_TOKENS = tempfile.TemporaryDirectory(prefix="dreamsmith-tokens-")
os.environ["DREAMSMITH_TOKEN_DIR"] = _TOKENS.name

# Those tests run in another environment; a plain `pytest` in this one leaves them out.
collect_ignore = [] if importlib.util.find_spec("bpy") else ["blender"]


def pytest_unconfigure() -> None:
    _TOKENS.cleanup()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of tensors that are tiny: threads that wait for each other are all that more would add."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
