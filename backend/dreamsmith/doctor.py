# SPDX-License-Identifier: Apache-2.0
"""What this installation is and what it found, line by line: the first thing to look at."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

from dreamsmith import __version__

_PACKAGES = ("torch", "diffusers", "transformers", "peft", "numba", "grpcio", "protobuf")


def examine(data_dir: Path) -> list[tuple[str, str]]:
    """Pairs of a name and a finding; loads torch."""
    import torch

    from dreamsmith.kernels.hash_grid import select_encoding
    from dreamsmith.kernels.rasterize import select_rasterizer
    from dreamsmith.service.capabilities import usable_priors
    from dreamsmith.service.devices import devices

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    priors = ", ".join(f"{prior.name} ({prior.folder})" for prior in usable_priors())
    return [
        ("dreamsmith", __version__),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, metadata.version(name)) for name in _PACKAGES),
        *(("device", _describe(values)) for values in devices()),
        ("hash grid", select_encoding(kind).__name__),
        ("rasteriser", type(select_rasterizer(kind)).__name__),
        ("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
        ("prior", priors or "none: the bundled weights are missing, install dreamsmith again"),
        ("data folder", f"{data_dir}, {_free_gib(data_dir):.1f} GiB free"),
    ]


def _describe(device: dict[str, object]) -> str:
    memory = device["memory_bytes"]
    gib = memory / 2**30 if isinstance(memory, int) else 0.0
    return f"{device['kind']}: {device['display_name']}, {gib:.1f} GiB"


def _free_gib(path: Path) -> float:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / 2**30
