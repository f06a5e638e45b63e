# SPDX-License-Identifier: Apache-2.0
"""A file that arrives in pieces: kept when the connection breaks, checked, then put in place."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType

from dreamsmith.client.stream import Patience, checked, read_message
from dreamsmith.errors import InvalidRequest, TransferFailed
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import Artifact


class PartialFile:
    """What has arrived of an artifact, beside the place where it will be.

    Its name holds the artifact's checksum, so that a later download goes on with it only when it is
    of the same content.

    Attributes:
        patience: with a server that went away.
        size_bytes: how much has arrived.
    """

    def __init__(
        self, target: Path, name: str, artifact: Artifact, reconnect_seconds: float
    ) -> None:
        """Take up what an earlier download left.

        Args:
            target: where it will be.
            name: its full one at the server, which was there a moment ago.
            artifact: what it is.
            reconnect_seconds: how long to look for a server that went away.

        Raises:
            InvalidRequest: the folder does not exist or may not be written to.
        """
        self.patience = Patience(reconnect_seconds)
        self.patience.renew()
        self._target, self._name = target, name
        self._artifact = artifact
        self._path = target.with_name(f".{target.name}.{artifact.sha256.hex()[:16]}.part")
        self._sha256 = hashlib.sha256()
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise InvalidRequest(
                "output",
                f"cannot write {str(target)!r}: {error.strerror}; give a folder that exists and "
                "that you may write to",
            ) from None
        self._file.seek(0)
        while block := self._file.read(2**20):
            self._sha256.update(block)
        self.size_bytes = self._file.tell()

    def __enter__(self) -> PartialFile:
        """Keep it open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; what has arrived stays for the next time."""
        self._file.close()

    @property
    def is_whole(self) -> bool:
        """Whether as many bytes are there as were described."""
        return self.size_bytes >= self._artifact.size_bytes

    def message(self) -> api.ReadArtifactRequest:
        """Ask for the bytes that are missing."""
        return read_message(self._name, self.size_bytes)

    def take(self, chunk: api.ReadArtifactResponse) -> None:
        """Add the next piece.

        Raises:
            TransferFailed: it is not what was sent.
        """
        self.patience.renew()
        data = checked(chunk, self.size_bytes)
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def finish(self) -> None:
        """Check the whole, flush it to the disk and put it in place.

        Raises:
            TransferFailed: it is not what the server described; what has arrived is removed.
        """
        self._file.flush()
        if self._sha256.digest() != self._artifact.sha256:
            self._path.unlink()
            raise TransferFailed(
                f"{self._artifact.name} arrived with a wrong checksum and was removed: "
                "download it again"
            )
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(self._target)
