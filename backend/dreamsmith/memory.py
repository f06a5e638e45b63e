# SPDX-License-Identifier: Apache-2.0
"""Keeps freed memory in the process, for the next step's tensors."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc not to hand freed memory back to the kernel; elsewhere do nothing.

    A step frees and asks again for hundreds of megabytes. By default each such block is mapped
    anew, and the kernel clears its pages every time.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
