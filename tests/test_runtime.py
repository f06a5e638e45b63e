# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc and GNU's OpenMP are asked")

PREPARE = "from dreamsmith.runtime import prepare_process; prepare_process()\n"
# How many pages the kernel gives in ten steps that make and free the same tensors.
FAULTS = """
import resource, torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    some = [torch.ones(2**power) for power in range(18, 25)]
    more = [tensor + 1 for tensor in some]
    product = [a * b for a, b in zip(some, more)]
step()
before = faults()
for _ in range(10): step()
print(faults() - before)
"""


def python(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ours = ("OMP_", "GOMP_", "MALLOC_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, *words],
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=True,
    )


def turns_of_waiting(*words: str, **variables: str) -> set[str]:
    """How often a thread looks before it sleeps, by each OpenMP library that a program loads."""
    told = python(*words, OMP_DISPLAY_ENV="verbose", **variables).stderr
    return set(re.findall(r"GOMP_SPINCOUNT = '(\w+)'", told))


def test_waiting_threads_of_the_program_sleep() -> None:
    assert turns_of_waiting("-m", "dreamsmith", "doctor") == {"0"}


def test_who_wants_another_policy_gets_it() -> None:
    program = ("-c", f"{PREPARE}import torch")
    assert turns_of_waiting(*program) == {"0"}
    assert "0" not in turns_of_waiting(*program, OMP_WAIT_POLICY="active")


def test_freed_memory_is_used_again() -> None:
    given = int(python("-c", PREPARE + FAULTS).stdout)
    # A thirtieth, as a rule.
    assert given < int(python("-c", FAULTS).stdout) / 4
