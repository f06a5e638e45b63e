# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def tiny_tensors(one_thread: None) -> None:
    """All of these tests are of small tensors."""
