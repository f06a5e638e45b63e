# SPDX-License-Identifier: Apache-2.0
"""What this installation is and what it found, line by line: the first thing to look at."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from dreamsmith import __version__

_PACKAGES: Final = ("torch", "diffusers", "transformers", "peft", "numba", "grpcio", "protobuf")
LOW_DISK_BYTES: Final = 2 * 2**30
LARGEST_CLOCK_DIFFERENCE_SECONDS: Final = 2.0
_SOON_DAYS: Final = 30


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        name: what was looked at.
        finding: what was found, for a person.
        is_well: False where somebody should do something; the finding then says what.
    """

    name: str
    finding: str
    is_well: bool = True


def examine(data_dir: Path, port: int) -> Iterator[Finding]:
    """Look at this machine, for jobs and for a server; loads torch.

    Args:
        data_dir: of the server.
        port: of the server.
    """
    yield Finding("dreamsmith", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    for name in _PACKAGES:
        yield Finding(name, metadata.version(name))
    yield Finding("sqlite", sqlite3.sqlite_version)
    yield from _devices()
    yield from _priors()
    yield _disk(data_dir)
    yield from _access(data_dir)
    yield _port(port)
    yield _clock(data_dir)
    set_here = sorted(name for name in os.environ if name.startswith("DREAMSMITH_"))
    yield Finding("environment", ", ".join(set_here) or "nothing of ours is set")


def _devices() -> Iterator[Finding]:
    import torch

    from dreamsmith.kernels.hash_grid import select_encoding
    from dreamsmith.kernels.rasterize import select_rasterizer
    from dreamsmith.service.devices import devices

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    for values in devices():
        memory = int(values["memory_bytes"])
        free = _free_memory(str(values["kind"]))
        of_it = f", {free / 2**30:.1f} GiB of it free" if free else ""
        yield Finding(
            "device",
            f"{values['kind']}: {values['display_name']}, {memory / 2**30:.1f} GiB{of_it}",
        )
    yield Finding("hash grid", f"{select_encoding(kind).__name__} ({_why(kind, 'tinycudann')})")
    yield Finding(
        "rasteriser", f"{type(select_rasterizer(kind)).__name__} ({_why(kind, 'nvdiffrast')})"
    )
    yield Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores")


def _why(kind: str, accelerator: str) -> str:
    is_there = importlib.util.find_spec(accelerator) is not None
    if kind == "cuda":
        return f"{accelerator} is {'' if is_there else 'not '}installed"
    return f"no CUDA device; {accelerator} is {'installed' if is_there else 'not installed either'}"


def _free_memory(kind: str) -> int:
    import torch

    if kind == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _priors() -> Iterator[Finding]:
    from dreamsmith.service.capabilities import installed_priors

    found = installed_priors()
    usable = [prior for prior in found if not prior.refusal]
    names = ", ".join(f"{prior.name} ({prior.folder})" for prior in usable)
    yield Finding(
        "prior",
        names or "none: the bundled weights are missing, install dreamsmith again",
        is_well=bool(usable),
    )
    for prior in found:
        if prior.refusal:
            yield Finding("not a prior", f"{prior.name}: {prior.refusal}")


def _disk(data_dir: Path) -> Finding:
    place = _nearest(data_dir)
    free = shutil.disk_usage(place).free
    text = f"{data_dir}, {free / 2**30:.1f} GiB free"
    if not os.access(place, os.W_OK):
        return Finding("data folder", f"{text}: you may not write there", is_well=False)
    if free < LOW_DISK_BYTES:
        return Finding("data folder", f"{text}: too little for new jobs", is_well=False)
    if os.name == "posix" and data_dir.is_dir() and data_dir.stat().st_mode & 0o077:
        return Finding(
            "data folder",
            f"{text}; others can look into it: chmod 700 {data_dir}",
            is_well=False,
        )
    return Finding("data folder", text)


def _access(data_dir: Path) -> Iterator[Finding]:
    from dreamsmith.errors import DreamsmithError
    from dreamsmith.service.certificates import read_certificate
    from dreamsmith.service.tokens import TokenBook
    from dreamsmith.wire.loopback import token_folder

    yield Finding("token folder", f"{token_folder()}, for servers of this machine alone")
    try:
        states = [record.state(time.time()) for record in TokenBook(data_dir).records()]
        yield Finding("tokens", f"{states.count('valid')} valid of {len(states)}")
        path = data_dir / "tls" / "server.pem"
        if not path.exists():
            return
        until = read_certificate(path).not_valid_after_utc
    except DreamsmithError as error:
        yield Finding("access", error.message, is_well=False)
        return
    days = (until.timestamp() - time.time()) / 86_400
    text = f"{path}, until {until.date().isoformat()}"
    if days < _SOON_DAYS:
        text += ": renew it with `dreamsmith certificate`"
    yield Finding("certificate", text, is_well=days >= _SOON_DAYS)


def _port(port: int) -> Finding:
    from dreamsmith.wire.loopback import find_token

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
    except OSError:
        return Finding("port", f"{port} is free")
    if find_token(port):
        return Finding("port", f"{port}: a Dreamsmith server of yours listens")
    return Finding(
        "port",
        f"{port} is taken, by another program or for other machines: see `dreamsmith doctor "
        f"--server HOST:{port}`",
    )


def _clock(data_dir: Path) -> Finding:
    """A file server's clock decides which of two files is newer."""
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    try:
        with tempfile.NamedTemporaryFile(dir=_nearest(data_dir)) as file:
            difference = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError:
        return Finding("clock", f"{now} UTC")
    is_well = abs(difference) <= LARGEST_CLOCK_DIFFERENCE_SECONDS
    text = f"{now} UTC, the data folder's differs by {difference:.1f} s"
    return Finding("clock", text if is_well else f"{text}: set both by NTP", is_well=is_well)


def _nearest(path: Path) -> Path:
    """The path, or what is there of the way to it."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
