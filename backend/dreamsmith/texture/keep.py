# SPDX-License-Identifier: Apache-2.0
"""A texture that is on the user's mesh already: refined, or changed in a part only."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dreamsmith.asset.inspection import use_of_square
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.own_mesh import OwnMesh
from dreamsmith.errors import InvalidRequest
from dreamsmith.kernels.rasterize import Rasterizer
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.render import SurfaceBuffers
from dreamsmith.surface.textured import texture_colors

# Share of the texture that may be on the user's mesh more than once: rounding, on its seams.
_OVERLAP = 0.005
_LARGEST = 4096
# What stands for no change where a field says how much a texture changes.
_UNCHANGED = 128


@dataclass(frozen=True)
class KeptTexture:
    """What stays of a texture.

    Attributes:
        texels: uint8, shape (T, T, 3), row 0 at the top (v = 1).
        mask: uint8, shape (T, T); 255 where it may change, 0 where no texel may.
        corner_uv: of the mesh, shape (F, 3, 2).
        refines: whether colours begin as they are; else, where they may change, with nothing.
    """

    texels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    corner_uv: NDArray[np.float32]
    refines: bool

    def seen(
        self,
        rasterizer: Rasterizer,
        buffers: SurfaceBuffers,
        field: Callable[[Tensor], Tensor],
    ) -> Callable[[Tensor], Tensor]:
        """Colours of the points of ``buffers``, in their order, for `shade_surface`."""
        if not bool(buffers.covered.any()):
            return field
        layers = np.concatenate((self.texels, self.mask[..., None]), -1)
        found = texture_colors(
            rasterizer, layers, self.corner_uv, buffers.rast, buffers.pos_clip, buffers.triangles
        )
        first, share = found[:, :3], found[:, 3:]

        def color_at(points: Tensor) -> Tensor:
            painted = field(points)
            if self.refines:
                changed = first + 2 * painted - 1
                # Past the ends of the range it is held, but not left without a gradient.
                painted = changed + (changed.clamp(0, 1) - changed).detach()
            return first + share * (painted - first)

        return color_at

    def applied(self, baked: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The texture changed by what a field was baked to, both of shape (T, T, 3).

        Texels whose mask is 0 stay to the last bit, and so do those that a field which refines left
        as they were.
        """
        first, painted = self.texels.astype(np.float32), baked.astype(np.float32)
        if self.refines:
            painted = np.clip(first + 2 * (painted - _UNCHANGED), 0, 255)
        share = self.mask[..., None].astype(np.float32) / 255
        return np.round(first + share * (painted - first)).astype(np.uint8)


def kept_texture(request: GenerationRequest, own: OwnMesh) -> KeptTexture:
    """What a request keeps of its mesh's texture.

    Raises:
        InvalidRequest: the mesh has no texture, several, or UVs that cannot be painted on; or the
            mask is no picture.
    """
    field = "keep texture" if request.keep_texture else "mask"
    if own.mesh.corner_uv is None or len(own.textures) != 1:
        raise InvalidRequest(
            field,
            f"{request.start!r} has {len(own.textures)} base colour textures, but one is needed to "
            "be kept: paint it anew without --keep-texture and --mask",
        )
    if not may_be_baked(own.mesh):
        raise InvalidRequest(
            field,
            f"the UVs of {request.start!r} lie on each other or leave the square, so that its "
            "texture cannot be changed in one place: unwrap it, or paint it anew",
        )
    (texture,) = own.textures
    if texture.width != texture.height or texture.width > _LARGEST:
        raise InvalidRequest(
            field,
            f"the texture of {request.start!r} has {texture.width} x {texture.height} texels: it "
            f"must be a square of at most {_LARGEST}",
        )
    texels = np.asarray(texture.convert("RGB"))
    mask = np.full(texels.shape[:2], 255, np.uint8)
    if request.mask:
        mask = read_mask(Path(request.mask), texture.width)
    return KeptTexture(texels, mask, own.mesh.corner_uv, request.keep_texture)


def read_mask(path: Path, size: int) -> NDArray[np.uint8]:
    """A picture's lightness as a mask of shape (size, size), resized if need be.

    Raises:
        InvalidRequest: it cannot be read, is too large, or is black throughout.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            if max(image.size) > _LARGEST:
                raise InvalidRequest(
                    "mask",
                    f"the mask {str(path)!r} has {image.width} x {image.height} pixels: at most "
                    f"{_LARGEST} along an edge are allowed",
                )
            grey = image.convert("L")
    except OSError as error:
        raise InvalidRequest("mask", f"cannot read the mask {str(path)!r}: {error}") from None
    mask = np.asarray(grey if grey.size == (size, size) else grey.resize((size, size)))
    if not mask.any():
        raise InvalidRequest(
            "mask", f"the mask {str(path)!r} is black throughout: white is what may change"
        )
    return mask


def may_be_baked(mesh: Mesh) -> bool:
    """Whether a mesh has UVs that do not leave the square or lie on each other."""
    use = None if mesh.corner_uv is None else use_of_square(mesh.corner_uv)
    return use is not None and use[0] > 0 and use[1] <= _OVERLAP


def forget_colors(head: torch.nn.Sequential) -> None:
    """Let a head say 0 everywhere, before its sigmoid: no change."""
    last = head[-1]
    if isinstance(last, torch.nn.Linear):
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
