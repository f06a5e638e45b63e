# SPDX-License-Identifier: Apache-2.0
"""The data folder of a server: where its database, its jobs' files and its lock lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import IO, Final

import platformdirs

from dreamsmith.errors import ServerNotStarted, StoreFull
from dreamsmith.files import lock_file
from dreamsmith.request import GenerationRequest
from dreamsmith.wire.uploads import upload_files

FREE_BYTES: Final = 2**30
"""What stays free on the disk: below it no job and no upload is taken."""


def default_data_dir() -> Path:
    """Where a server keeps its jobs unless it is told."""
    return Path(platformdirs.user_data_dir("dreamsmith", appauthor=False))


class DataFolder:
    """Paths below one data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def database(self) -> Path:
        """The job database."""
        return self.root / "jobs.sqlite3"

    @property
    def tls(self) -> Path:
        """Certificates of the server, where `dreamsmith certificate` made them."""
        return self.root / "tls"

    def job(self, name: str) -> Path:
        """Everything of the job named ``jobs/{job}``."""
        return self.root / "jobs" / name.removeprefix("jobs/")

    def workspace(self, name: str) -> Path:
        """The checkpoints of a job; shared by its attempts."""
        return self.job(name) / "workspace"

    def artifacts(self, name: str, attempt: int) -> Path:
        """Files of the finished asset; an attempt of the past cannot write into another's."""
        return self.job(name) / f"artifacts-{attempt}"

    def log(self, name: str) -> Path:
        """What the workers of a job print."""
        return self.job(name) / "worker.log"

    @property
    def uploads(self) -> Path:
        """Complete uploads, each named by its SHA-256, and what has arrived of others."""
        return self.root / "uploads"

    def prepare(self, name: str, attempt: int, request: GenerationRequest) -> None:
        """Make the folders that a worker needs.

        The uploads that it needs lie in its workspace under their names in the API.
        """
        self.workspace(name).mkdir(parents=True, exist_ok=True)
        self.artifacts(name, attempt).mkdir(exist_ok=True)
        for file, digest in upload_files(request).items():
            target = self.workspace(name) / "uploads" / file
            target.parent.mkdir(exist_ok=True)
            if not target.exists():
                link_or_copy(self.uploads / digest, target)

    def discard_workspace(self, name: str) -> None:
        """Remove the checkpoint of a job that has ended."""
        shutil.rmtree(self.workspace(name), ignore_errors=True)

    def sweep_jobs(self, kept: Collection[str], with_workspace: Collection[str]) -> None:
        """Remove what a crash has left: folders of no job, workspaces, half-written files.

        Args:
            kept: names of all jobs.
            with_workspace: those of them whose checkpoints are still needed.
        """
        for folder in _entries(self.root / "jobs"):
            name = f"jobs/{folder.name}"
            if name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
            elif name not in with_workspace:
                self.discard_workspace(name)
            else:
                for file in _entries(self.workspace(name)):
                    if file.name.startswith(".") and file.is_file():
                        file.unlink(missing_ok=True)

    def sweep_uploads(self, kept: Collection[str]) -> None:
        """Remove files of uploads that are no longer kept."""
        for file in _entries(self.uploads):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def check_room(self, size_bytes: int = 0) -> None:
        """Raise `StoreFull` unless `FREE_BYTES` are left on the disk after so much more."""
        free = shutil.disk_usage(self.root).free
        if free - size_bytes < FREE_BYTES:
            raise StoreFull(
                f"the server's disk has {free // 2**20} MiB left and keeps {FREE_BYTES // 2**20} "
                "free: free some space on it, `dreamsmith delete` removes jobs"
            )

    def discard(self, name: str) -> None:
        """Remove everything of a job that was deleted."""
        shutil.rmtree(self.job(name), ignore_errors=True)


class FolderLock:
    """Keeps a second server out of a data folder until `release`, or until this process ends."""

    def __init__(self, root: Path) -> None:
        """Make the folder where it is missing, and lock it.

        Raises:
            ServerNotStarted: another server has it, or it cannot be written.
        """
        try:
            # What lies in it, prompts and meshes, is nobody else's.
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file: IO[bytes] = (root / "lock").open("ab")
        except OSError as error:
            raise ServerNotStarted(
                f"cannot write the data folder {str(root)!r}: {error.strerror}; name one that you "
                "may write to with --data-dir"
            ) from None
        try:
            lock_file(self._file)
        except OSError:
            self._file.close()
            raise ServerNotStarted(
                f"another server uses the data folder {str(root)!r}: stop it, or name another "
                "folder with --data-dir"
            ) from None

    def release(self) -> None:
        """Let others in."""
        self._file.close()


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def link_or_copy(source: Path, target: Path) -> None:
    """The same content under a second name: where the file system can, without a copy."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
