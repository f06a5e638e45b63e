# SPDX-License-Identifier: Apache-2.0
"""The files that a person keeps: the model, a turntable picture and an animation beside it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from dreamsmith.asset.model import SUFFIXES, Asset
from dreamsmith.errors import InvalidRequest
from dreamsmith.files import write_atomic
from dreamsmith.request import MAXIMUM_LODS


@dataclass(frozen=True)
class Outputs:
    """Where the results of one generation go.

    Attributes:
        model: the file of the model, its suffix being the format.
        lods: levels of detail beside it.
    """

    model: Path
    lods: int = 0

    @classmethod
    def at(cls, path: Path, variations: int = 1, lods: int = 0) -> Outputs:
        """Check, before any work, that the files of all variations can be written.

        Raises:
            InvalidRequest: the path does not end in .glb, .obj or .ply, its folder may not be
                written to, or there are too many levels of detail.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise InvalidRequest(
                "output",
                "the output must end in .glb, .obj or .ply, for instance mug.glb, not "
                f"{str(path)!r}",
            )
        if not 0 <= lods <= MAXIMUM_LODS:
            raise InvalidRequest("lods", f"lods must be 0 to {MAXIMUM_LODS}, not {lods}")
        outputs = cls(path, lods)
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
        return Outputs(self.model.with_stem(f"{self.model.stem}-{number}"), self.lods)

    @property
    def turntable(self) -> Path:
        """A picture of the object from all around."""
        return self.model.with_suffix(".turntable.png")

    @property
    def animation(self) -> Path:
        """One turn of the object."""
        return self.model.with_suffix(".webp")

    @property
    def levels(self) -> tuple[Path, ...]:
        """Levels of detail: ``mug.lod1.glb``, ``mug.lod2.glb``, ..."""
        return tuple(
            self.model.with_stem(f"{self.model.stem}.lod{level}")
            for level in range(1, self.lods + 1)
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, but for the texture and material of an .obj."""
        return self.model, *self.levels, self.turntable, self.animation

    @property
    def workspace(self) -> Path:
        """Where the checkpoint lies unless another folder is named: ``.mug.dreamsmith``."""
        return self.model.with_name(f".{self.model.stem}.dreamsmith")

    def write(self, asset: Asset) -> None:
        """Write an asset's files, the model last."""
        write_atomic(self.turntable, asset.turntable_png)
        write_atomic(self.animation, asset.animation_webp)
        self.write_levels(asset)
        _write_files(self.model, asset)

    def write_levels(self, asset: Asset) -> None:
        """Write the levels of detail alone.

        Raises:
            ValueError: some are wanted of a mesh that is not closed.
        """
        if not self.lods:
            return
        from dreamsmith.texture.lods import levels_of_detail

        for path, level in zip(self.levels, levels_of_detail(asset, self.lods), strict=True):
            _write_files(path, level)

    def take(self, downloaded: Path) -> None:
        """Make the model and its levels of detail of a GLB that was fetched, and remove that.

        Raises:
            InvalidRequest: the file is not such a GLB.
        """
        from dreamsmith.asset.glb import read_glb

        if self.lods or downloaded != self.model:
            asset = read_glb(downloaded)
            self.write_levels(asset)
            if downloaded != self.model:
                _write_files(self.model, asset)
                downloaded.unlink()

    @property
    def downloaded(self) -> Path:
        """Where a GLB goes that is fetched: in place, unless another format is wanted."""
        if self.model.suffix.lower() == ".glb":
            return self.model
        return self.model.with_name(f".{self.model.name}.glb")


def _write_files(path: Path, asset: Asset) -> None:
    from dreamsmith.asset.export import model_files

    for name, data in model_files(asset, path.stem, path.suffix).items():
        write_atomic(path.with_name(name), data)


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
