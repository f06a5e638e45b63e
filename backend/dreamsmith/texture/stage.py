# SPDX-License-Identifier: Apache-2.0
"""Stage 3: the colour of a surface that does not change any more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dreamsmith.asset.mesh import (
    decimate,
    keep_large_components,
    placed,
    smooth,
    turned_inside_out,
)
from dreamsmith.asset.model import Mesh
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.events import Stage
from dreamsmith.job import Job, Views
from dreamsmith.stage import Pictures
from dreamsmith.surface.render import SurfaceBuffers
from dreamsmith.surface.stage import MeshStage, SurfaceStage
from dreamsmith.texture.keep import forget_colors

_LEARNING_RATE = 3e-3
_PAINTING_LEARNING_RATE = 1e-2
# Just enough to even out the steps that marching tetrahedra leave.
_SMOOTHINGS = 4


class _FixedMesh(nn.Module):
    """A mesh as buffers, so that a checkpoint holds it like everything else."""

    vertices: Tensor
    triangles: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("vertices", torch.empty(0, 3))
        self.register_buffer("triangles", torch.empty(0, 3, dtype=torch.int64))

    def use(self, mesh: Mesh) -> None:
        """Take a mesh's vertices and triangles."""
        device = self.vertices.device
        self.vertices = torch.from_numpy(mesh.positions).to(device)
        self.triangles = torch.from_numpy(mesh.triangles.astype(np.int64)).to(device)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        # Another size than the empty mesh that a stage begins with is no mistake.
        for name in ("vertices", "triangles"):
            setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class TextureStage(MeshStage):
    """Optimises the colour field on the final mesh."""

    name: Stage = "texture"

    def __init__(self, job: Job, guidance: Guidance) -> None:
        super().__init__(job, guidance, job.settings.texture_steps)
        self._fixed = _FixedMesh().to(job.device)
        self.modules["mesh"] = self._fixed
        self._dense = _FixedMesh().to(job.device) if job.request.normal_map else None
        if self._dense is not None:
            self.modules["dense_mesh"] = self._dense
        self.begins = job.request.paints_from_nothing
        rate = _PAINTING_LEARNING_RATE if self.begins else _LEARNING_RATE
        self.optimizer = torch.optim.Adam(
            self.color_parameters(), lr=rate, betas=(0.9, 0.99), eps=1e-15
        )

    @classmethod
    def painting(cls, job: Job, guidance: Guidance) -> TextureStage:
        """Begin with the job's mesh, and with no colour yet.

        Raises:
            ValueError: the job has none.
        """
        stage = cls(job, guidance)
        if job.start is None or stage.placement is None:
            raise ValueError("the job has no mesh to paint")
        kept = job.kept
        stage.begins = kept is None or not kept.refines
        if kept is not None and kept.refines:
            forget_colors(stage.field.albedo_head)
        stage._fixed.use(placed(job.start, stage.placement))
        return stage

    @classmethod
    def after(cls, earlier: SurfaceStage) -> TextureStage:
        """Clean the surface up (floaters, face budget) and take over its colours."""
        job = earlier.job
        stage = cls(job, earlier.guidance)
        stage.field.load_state_dict(earlier.field.state_dict())
        with torch.no_grad():
            vertices, triangles = earlier.triangle_mesh()
        clean = _to_mesh(vertices, triangles)
        if job.request.is_scene:
            # As the solid that its air is, a room is cleaned up like any other.
            clean = turned_inside_out(clean)
        if job.start is None:
            clean = keep_large_components(clean)
        clean = smooth(clean, _SMOOTHINGS)
        few = decimate(clean, job.settings.face_budget)
        if job.request.is_scene:
            clean, few = turned_inside_out(clean), turned_inside_out(few)
        stage._fixed.use(few)
        if stage._dense is not None:
            stage._dense.use(clean)
        return stage

    def triangle_mesh(self) -> tuple[Tensor, Tensor]:
        """The final mesh."""
        return self._fixed.vertices, self._fixed.triangles

    def final_mesh(self) -> Mesh:
        """The final mesh where it was optimised, without UVs."""
        return _to_mesh(*self.triangle_mesh())

    def dense_mesh(self) -> Mesh:
        """The surface before it was reduced to the face budget.

        Raises:
            ValueError: nobody asked for a normal map, so that it was not kept.
        """
        if self._dense is None:
            raise ValueError("the dense surface is kept for a normal map alone")
        return _to_mesh(self._dense.vertices, self._dense.triangles)

    @torch.no_grad()
    def colors_at(self, points: Tensor) -> Tensor:
        """Albedo, shape (N, 3) to (N, 3), sRGB in [0, 1], on the CPU."""
        return self.field.albedo(points.to(self.job.device)).cpu()

    def colors_of(self, buffers: SurfaceBuffers) -> Callable[[Tensor], Tensor]:
        """Of the field, or of the texture that it changes."""
        kept = self.job.kept
        if kept is None:
            return self.field.albedo
        return kept.seen(self.rasterizer, buffers, self.field.albedo)

    def draw(self, views: Views) -> Pictures:
        """Rasterised pictures."""
        vertices, triangles = self.triangle_mesh()
        images = self.pictures(views, vertices, triangles)
        return Pictures(images, 0.0, {"triangles": float(len(triangles))})


def _to_mesh(vertices: Tensor, triangles: Tensor) -> Mesh:
    return Mesh(vertices.cpu().numpy().astype(np.float32), triangles.cpu().numpy().astype(np.int32))
