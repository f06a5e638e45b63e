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
from dreamsmith.distillation.schedules import annealed
from dreamsmith.events import Stage
from dreamsmith.job import Job, Views
from dreamsmith.settings import Shading
from dreamsmith.stage import Pictures
from dreamsmith.surface.render import SurfaceBuffers, shade_material
from dreamsmith.surface.stage import MeshStage, SurfaceStage
from dreamsmith.texture.keep import forget_colors
from dreamsmith.texture.material import Material, regularisation

_LEARNING_RATE = 3e-3
_PAINTING_LEARNING_RATE = 1e-2


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
        self._material = Material(self.field, job.generator) if job.request.pbr else None
        optimised = self.color_parameters()
        if self._material is not None:
            self._material.to(job.device)
            self.modules["material"] = self._material
            optimised += self._material.parameters()
        self.optimizer = torch.optim.Adam(optimised, lr=rate, betas=(0.9, 0.99), eps=1e-15)

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
        """Clean the surface up (floaters, smoothing, face budget) and take over its colours."""
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
        clean = smooth(clean, job.request.smoothing)
        few = decimate(clean, job.settings.face_budget)
        if job.request.is_scene:
            clean, few = turned_inside_out(clean), turned_inside_out(few)
        stage._fixed.use(few)
        if stage._dense is not None:
            stage._dense.use(clean)
        return stage

    def views(self) -> Views:
        """Lit as the settings say; a material always, for bare albedo says nothing of it."""
        settings = self.job.settings
        shading = settings.texture.shading if self._material is None else Shading()
        return self.job.draw_views(*settings.later_views(self.job.prior.resolution), shading)

    def noise_levels(self) -> tuple[float, float]:
        """Of a mesh without colours those of its kind; else low ones, after all for a while."""
        if self.begins:
            return super().noise_levels()
        return annealed(self.progress, self.job.settings.texture.annealed_after)

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

    @torch.no_grad()
    def metallic_roughness_at(self, points: Tensor) -> Tensor:
        """As a texture holds them: 1, roughness, metallic, (N, 3) to (N, 3), on the CPU.

        Raises:
            ValueError: nobody asked for them, so that they are constant.
        """
        if self._material is None:
            raise ValueError("roughness and metallic are optimised for a PBR material alone")
        values = self._material(self.field.encode(points.to(self.job.device))).cpu()
        return torch.cat((torch.ones_like(values[:, :1]), values), -1)

    def colors_of(self, buffers: SurfaceBuffers) -> Callable[[Tensor], Tensor]:
        """Of the field, or of the texture that it changes."""
        kept = self.job.kept
        if kept is None:
            return self.field.albedo
        return kept.seen(self.rasterizer, buffers, self.field.albedo)

    def shaded(self, buffers: SurfaceBuffers, views: Views) -> Tensor:
        """In colour and light, of a material where one is optimised."""
        material = self._material
        if material is None:
            return super().shaded(buffers, views)

        def material_at(points: Tensor) -> Tensor:
            features = self.field.encode(points)
            albedo = torch.sigmoid(self.field.albedo_head(features))
            return torch.cat((albedo, material(features)), -1)

        return shade_material(
            self.rasterizer,
            buffers,
            material_at,
            views.backgrounds,
            views.lights,
            views.ambient,
            views.cameras,
        )

    def draw(self, views: Views) -> Pictures:
        """Rasterised pictures, with a regulariser of the material, if there is one."""
        vertices, triangles = self.triangle_mesh()
        images = self.pictures(views, vertices, triangles)
        metrics = {"triangles": float(len(triangles))}
        if self._material is None:
            return Pictures(images, 0.0, metrics)
        held = regularisation(self._material, self.field, vertices, triangles, self.job.generator)
        return Pictures(images, held, metrics)


def _to_mesh(vertices: Tensor, triangles: Tensor) -> Mesh:
    return Mesh(vertices.cpu().numpy().astype(np.float32), triangles.cpu().numpy().astype(np.int32))
