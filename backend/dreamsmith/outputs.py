# SPDX-License-Identifier: Apache-2.0
"""The files that a person keeps: the model, a turntable picture and an animation beside it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from dreamsmith.asset.model import SUFFIXES, Asset
from dreamsmith.errors import InvalidRequest
from dreamsmith.files import write_atomic


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
            InvalidRequest: the path does not end in .glb, .obj or .ply, or its folder may not be
                written to.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise InvalidRequest(
                "output",
                "the output must end in .glb, .obj or .ply, for instance mug.glb, not "
                f"{str(path)!r}",
            )
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
    def models(self) -> tuple[Path, ...]:
        """The model, then its levels of detail: ``mug.glb``, ``mug.lod1.glb``, ..."""
        stem = self.model.stem
        levels = range(1, self.lods + 1)
        return self.model, *(self.model.with_stem(f"{stem}.lod{level}") for level in levels)

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, but for the texture and material of an .obj."""
        return *self.models, self.turntable, self.animation

    @property
    def workspace(self) -> Path:
        """Where the checkpoint lies unless another folder is named: ``.mug.dreamsmith``."""
        return self.model.with_name(f".{self.model.stem}.dreamsmith")

    def write(self, asset: Asset) -> None:
        """Write an asset's files, the model last."""
        write_atomic(self.turntable, asset.turntable_png)
        write_atomic(self.animation, asset.animation_webp)
        for path, part in reversed([*zip(self.models, (asset, *asset.lods), strict=True)]):
            _write_files(path, part)


def glb_beside(model: Path) -> Path:
    """Where a GLB goes that is fetched: in place, unless another format is wanted."""
    if model.suffix.lower() == ".glb":
        return model
    return model.with_name(f".{model.name}.glb")


def take_glb(model: Path) -> None:
    """Make a model of the GLB beside it, and remove that.

    Raises:
        InvalidRequest: the file is not such a GLB.
    """
    from dreamsmith.asset.glb import read_glb

    fetched = glb_beside(model)
    if fetched != model:
        _write_files(model, read_glb(fetched))
        fetched.unlink()


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
