# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
from addon.sidecar import checksum


@pytest.mark.parametrize("size", [0, 1, 9, 255, 256, 257, 512, 100_003, 256 * 2**10])
def test_the_checksum_is_the_servers(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert checksum.crc32c(data) == google_crc32c.value(data)


def test_the_checksum_is_that_of_the_standard() -> None:
    assert checksum.crc32c(b"123456789") == 0xE3069283
