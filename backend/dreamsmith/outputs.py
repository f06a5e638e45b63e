# SPDX-License-Identifier: Apache-2.0
"""The files that a person keeps: FILE.glb, and beside it a turntable picture and an animation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from dreamsmith.asset.model import Asset
from dreamsmith.errors import InvalidRequest
from dreamsmith.files import write_atomic


@dataclass(frozen=True)
class Outputs:
    """Where the results of one generation go."""

    model: Path

    @classmethod
    def at(cls, path: Path, variations: int = 1) -> Outputs:
        """Check, before any work, that the files of all variations can be written.

        Raises:
            InvalidRequest: the path does not end in .glb, or its folder may not be written to.
        """
        if path.suffix.lower() != ".glb":
            raise InvalidRequest(
                "output", f"the output must end in .glb, for instance mug.glb, not {str(path)!r}"
            )
        outputs = cls(path)
        if not path.absolute().parent.is_dir():
            raise InvalidRequest(
                "output",
                f"cannot write {str(path)!r}: the folder {str(path.absolute().parent)!r} does not "
                "exist; make it, or give another",
            )
        for number in range(1, variations + 1):
            for file in outputs.variation(number).files:
                _check_writable(file)
        return outputs

    def variation(self, number: int) -> Outputs:
        """Where a variation's results go: ``mug.glb``, ``mug-2.glb``, ``mug-3.glb``, ..."""
        if number == 1:
            return self
        return Outputs(self.model.with_stem(f"{self.model.stem}-{number}"))

    @property
    def turntable(self) -> Path:
        """A picture of the object from all around."""
        return self.model.with_suffix(".turntable.png")

    @property
    def animation(self) -> Path:
        """One turn of the object."""
        return self.model.with_suffix(".webp")

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """All of them."""
        return self.model, self.turntable, self.animation

    @property
    def workspace(self) -> Path:
        """Where the checkpoint lies unless another folder is named: ``.mug.dreamsmith``."""
        return self.model.with_name(f".{self.model.stem}.dreamsmith")

    def write(self, asset: Asset) -> None:
        """Write an asset's files, the model last."""
        from dreamsmith.asset.glb import glb_bytes

        write_atomic(self.turntable, asset.turntable_png)
        write_atomic(self.animation, asset.animation_webp)
        write_atomic(self.model, glb_bytes(asset))


def _check_writable(file: Path) -> None:
    if file.is_dir():
        raise InvalidRequest("output", f"cannot write {str(file)!r}: it is a folder")
    try:
        # By trying: permissions alone say nothing of disks that are full or can only be read.
        with tempfile.TemporaryFile(dir=file.absolute().parent):
            pass
    except OSError as error:
        raise InvalidRequest(
            "output", f"cannot write {str(file)!r}: {error.strerror}; give another folder"
        ) from None
