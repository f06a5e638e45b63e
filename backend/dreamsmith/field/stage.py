# SPDX-License-Identifier: Apache-2.0
"""Stage 1: score distillation of a radiance field."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import Cameras, preview_camera, sample_cameras, sample_light_directions
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import GenerationFailed
from dreamsmith.events import Stage
from dreamsmith.field.losses import opaqueness_loss, orientation_loss, sparsity_loss
from dreamsmith.field.occupancy import OccupancyGrid
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.field.render import Rendering, render_rays, surface_normals
from dreamsmith.job import Job
from dreamsmith.lighting import sample_ambient
from dreamsmith.state import load_state, pack_state, with_prefix
from dreamsmith.surface.level import find_level
from dreamsmith.surface.model import TetrahedralSurface
from dreamsmith.surface.preview import colored_mesh
from dreamsmith.surface.tetrahedra import TetrahedralGrid, body_centred_grid

_OCCUPANCY_EVERY = 8
_RAY_STEP = 1 / 24
_NORMAL_EPSILON = 0.04
# Rays that see less than this get no normal: theirs would be noise.
_VISIBLE = 0.05
_PREVIEW_CELLS = 28
_PICTURE_RESOLUTION = 96
_CHUNK = 1 << 17
_LEARNING_RATE = 1e-2
_SPARSITY = 60.0
_OPAQUENESS = 80.0
_ORIENTATION = 100.0


class FieldStage:
    """Optimises a radiance field, one batch of cameras a step.

    Attributes:
        step: steps done.
        total_steps: steps in all.
        field: what is optimised.
        occupancy: where it has anything.
    """

    name: Stage = "field"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.step = 0
        self.total_steps = job.settings.field_steps
        self.guidance = Guidance(job)
        self.field = RadianceField(
            FieldConfig(), job.generator, device=job.device, kernels=job.encoding
        )
        self.occupancy = OccupancyGrid(self.field.config.bound).to(job.device)
        self.optimizer = torch.optim.Adam(
            self.field.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.99), eps=1e-15
        )

    def advance(self) -> dict[str, float]:
        """One step; returns numbers to show."""
        job, generator = self.job, self.job.generator
        progress = self.step / self.total_steps
        if self.step % _OCCUPANCY_EVERY == 0:
            self.occupancy.update(self.field.density, generator)
        cameras = sample_cameras(job.request.cameras, job.settings.batch_size, generator)
        images, rendering, normals, seen = self.render(
            cameras,
            job.prior.resolution,
            sample_backgrounds(len(cameras), job.prior.resolution, generator),
            sample_light_directions(cameras, generator),
            sample_ambient(len(cameras), generator),
            generator,
        )
        loss = self.guidance.loss(images, cameras, progress)
        _, directions = cameras.rays(job.prior.resolution)
        directions = directions.reshape(-1, 3).to(job.device)
        regularisation = (
            _SPARSITY * sparsity_loss(rendering.opacity)
            + _OPAQUENESS * progress * opaqueness_loss(rendering.opacity)
            + _ORIENTATION * orientation_loss(rendering.opacity[seen], normals, directions[seen])
        )
        self.optimizer.zero_grad()
        (loss + regularisation).backward()
        self.optimizer.step()
        self.guidance.learn(images, cameras)
        self.step += 1
        return {
            "opacity": float(rendering.opacity.detach().mean()),
            "samples": float(len(rendering.weights)),
        }

    def render(
        self,
        cameras: Cameras,
        resolution: int,
        backgrounds: Tensor,
        lights: Tensor,
        ambient: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Rendering, Tensor, Tensor]:
        """Shaded pictures of the field.

        Args:
            cameras: B of them.
            resolution: edge of the pictures, R pixels.
            backgrounds: shape (B, 3, R, R), in [0, 1].
            lights: unit vectors towards a distant light, shape (B, 3).
            ambient: share of the light that comes from everywhere, shape (B,).
            generator: jitters the samples; None: no jitter.

        Returns:
            pictures (B, 3, R, R), the rendering of their B * R * R rays, the normals of those rays
            that see something (N, 3), and which rays these are (N,).
        """
        device, count = self.job.device, len(cameras)
        origins, directions = (rays.reshape(-1, 3).to(device) for rays in cameras.rays(resolution))
        background = backgrounds.to(device).permute(0, 2, 3, 1).reshape(-1, 3)
        rendering = render_rays(
            self.field.density_and_albedo,
            origins,
            directions,
            background,
            self.occupancy,
            step=_RAY_STEP,
            generator=generator,
        )
        seen = torch.nonzero(rendering.opacity.detach() > _VISIBLE)[:, 0]
        normals = surface_normals(self.field.density, rendering.surface[seen], _NORMAL_EPSILON)
        camera = seen // (resolution * resolution)
        cosine = (normals * lights.to(device)[camera]).sum(-1).clamp(min=0)
        ambient = ambient.to(device)[camera]
        light = torch.ones_like(rendering.opacity).index_copy(
            0, seen, ambient + (1 - ambient) * cosine
        )
        shaded = rendering.foreground * light[:, None]
        color = shaded + (1 - rendering.opacity[:, None]) * background
        images = color.reshape(count, resolution, resolution, 3).permute(0, 3, 1, 2)
        return images, rendering, normals, seen

    @torch.no_grad()
    def picture(self) -> Tensor:
        """The field as seen now, shape (3, R, R)."""
        camera = preview_camera(self.job.request.cameras)
        images, *_ = self.render(
            camera,
            _PICTURE_RESOLUTION,
            torch.full((1, 3, _PICTURE_RESOLUTION, _PICTURE_RESOLUTION), 0.8),
            camera.position / camera.distance[:, None],
            torch.full((1,), 0.5),
        )
        return images[0].clamp(0, 1).cpu()

    def mesh(self) -> Mesh | None:
        """The field's surface with vertex colours; None while it has none."""
        grid = body_centred_grid(_PREVIEW_CELLS, self.field.config.bound)
        try:
            surface = self.surface(grid)
        except GenerationFailed:
            return None
        with torch.no_grad():
            vertices, triangles = surface.extract()
            return colored_mesh(vertices, triangles, self.colors_at)

    @torch.no_grad()
    def surface(self, grid: TetrahedralGrid) -> TetrahedralSurface:
        """The level of the density whose surface is an object.

        Raises:
            GenerationFailed: there is none.
        """
        densities = []
        for points in grid.vertices.to(self.job.device).split(_CHUNK):
            inside = points.norm(dim=-1) < self.field.config.bound
            densities.append(self.field.density(points) * inside)
        densities = torch.cat(densities).cpu()
        level = find_level(densities, grid)
        return TetrahedralSurface.from_densities(grid, densities, level.threshold)

    @torch.no_grad()
    def colors_at(self, points: Tensor) -> Tensor:
        """Albedo, shape (N, 3) to (N, 3), sRGB in [0, 1]."""
        return self.field.albedo(points)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state but for the counters."""
        return pack_state(
            self.job.generator,
            self.optimizer,
            field=self.field,
            occupancy=self.occupancy,
        ) | {f"guidance.{name}": value for name, value in self.guidance.tensors().items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        load_state(
            tensors,
            self.job.generator,
            self.optimizer,
            field=self.field,
            occupancy=self.occupancy,
        )
        self.guidance.load_tensors(with_prefix(tensors, "guidance."))
