# SPDX-License-Identifier: Apache-2.0
"""What a process of ours that computes asks of the libraries below it, before it loads any."""

from __future__ import annotations

import ctypes
import os
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST = 2**31 - 1


def prepare_process() -> None:
    """Keep freed memory, and let threads that wait sleep; to be called before torch is imported.

    A variable of the environment that says how threads are to wait goes before this.
    """
    _keep_freed_memory()
    # OpenMP's threads spin while they wait for each other, on the cores that another process's
    # threads need: two generations at once took three times as long as with threads that sleep,
    # and one alone is no slower for it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _keep_freed_memory() -> None:
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
