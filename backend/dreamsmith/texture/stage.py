# SPDX-License-Identifier: Apache-2.0
"""Stage 3: the colour of a surface that does not change any more."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamsmith.asset.mesh import decimate, keep_large_components
from dreamsmith.asset.model import Mesh
from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import sample_cameras, sample_light_directions
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.events import Stage
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.job import Job
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.lighting import sample_ambient
from dreamsmith.state import load_state, pack_state, with_prefix
from dreamsmith.surface.picture import surface_picture
from dreamsmith.surface.preview import colored_mesh
from dreamsmith.surface.render import render_surface, shade_surface
from dreamsmith.surface.stage import SurfaceStage

_LEARNING_RATE = 3e-3


class TextureStage:
    """Optimises the colour field on the final mesh.

    Attributes:
        step: steps done.
        total_steps: steps in all.
        vertices: of the final mesh, shape (V, 3).
        triangles: int64, shape (F, 3).
        field: the colour.
    """

    name: Stage = "texture"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.step = 0
        self.total_steps = job.settings.texture_steps
        self.guidance = Guidance(job)
        self.rasterizer = select_rasterizer(job.device, job.rasterizer)
        self.vertices = torch.empty(0, 3, device=job.device)
        self.triangles = torch.empty(0, 3, dtype=torch.int64, device=job.device)
        self.field = RadianceField(
            FieldConfig(), torch.Generator(), device=job.device, kernels=job.encoding
        )
        self.optimizer = torch.optim.Adam(
            [*self.field.encoding.parameters(), *self.field.albedo_head.parameters()],
            lr=_LEARNING_RATE,
            betas=(0.9, 0.99),
            eps=1e-15,
        )

    @classmethod
    def after(cls, earlier: SurfaceStage) -> TextureStage:
        """Clean the surface up (floaters, face budget) and take over its colours."""
        job = earlier.job
        stage = cls(job)
        stage.field.load_state_dict(earlier.field.state_dict())
        with torch.no_grad():
            vertices, triangles = earlier.surface.extract()
        raw = Mesh(
            vertices.cpu().numpy().astype(np.float32), triangles.cpu().numpy().astype(np.int32)
        )
        clean = decimate(keep_large_components(raw), job.settings.face_budget)
        stage.vertices = torch.from_numpy(clean.positions).to(job.device)
        stage.triangles = torch.from_numpy(clean.triangles.astype(np.int64)).to(job.device)
        stage.guidance.load_tensors(earlier.guidance.tensors())
        return stage

    def advance(self) -> dict[str, float]:
        """One step; returns numbers to show."""
        job, generator = self.job, self.job.generator
        cameras = sample_cameras(job.request.cameras, job.settings.batch_size, generator)
        resolution = job.prior.resolution
        backgrounds = sample_backgrounds(len(cameras), resolution, generator).to(job.device)
        lights = sample_light_directions(cameras, generator)
        ambient = sample_ambient(len(cameras), generator).to(job.device)
        buffers = render_surface(
            self.rasterizer, self.vertices, self.triangles, cameras, resolution
        )
        images = shade_surface(
            self.rasterizer, buffers, self.field.albedo, backgrounds, lights, ambient
        )
        self.optimizer.zero_grad()
        self.guidance.loss(images, cameras, 1.0).backward()
        self.optimizer.step()
        self.guidance.learn(images, cameras)
        self.step += 1
        return {"triangles": float(len(self.triangles))}

    def picture(self) -> Tensor:
        """The surface as seen now, shape (3, R, R)."""
        return surface_picture(
            self.rasterizer, self.vertices, self.triangles, self.colors_at, self.job.request.cameras
        )

    def final_mesh(self) -> Mesh:
        """The finished shape, where it was optimised."""
        return Mesh(self.vertices.cpu().numpy(), self.triangles.cpu().numpy().astype(np.int32))

    def mesh(self) -> Mesh | None:
        """The surface with vertex colours."""
        return colored_mesh(self.vertices, self.triangles, self.colors_at)

    @torch.no_grad()
    def colors_at(self, points: Tensor) -> Tensor:
        """Albedo, shape (N, 3) to (N, 3), sRGB in [0, 1]."""
        return self.field.albedo(points)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state but for the counters."""
        return (
            pack_state(self.job.generator, self.optimizer, field=self.field)
            | {"vertices": self.vertices, "triangles": self.triangles}
            | {f"guidance.{name}": value for name, value in self.guidance.tensors().items()}
        )

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        load_state(tensors, self.job.generator, self.optimizer, field=self.field)
        self.vertices = tensors["vertices"].to(self.job.device)
        self.triangles = tensors["triangles"].to(self.job.device)
        self.guidance.load_tensors(with_prefix(tensors, "guidance."))
