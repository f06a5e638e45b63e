# SPDX-License-Identifier: Apache-2.0
"""Stage 2: shape and colour of a tetrahedral surface (DMTet), refined by score distillation."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import sample_cameras, sample_light_directions
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import GenerationFailed
from dreamsmith.events import Stage
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.field.stage import FieldStage
from dreamsmith.job import Job
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.lighting import sample_ambient
from dreamsmith.state import load_state, pack_state, with_prefix
from dreamsmith.surface.model import TetrahedralSurface
from dreamsmith.surface.picture import surface_picture
from dreamsmith.surface.preview import colored_mesh
from dreamsmith.surface.regularise import laplacian, normal_consistency, sign_change
from dreamsmith.surface.render import render_surface, shade_surface
from dreamsmith.surface.tetrahedra import body_centred_grid

_DISTANCE_LEARNING_RATE = 1e-3
_DEFORMATION_LEARNING_RATE = 1e-2
_COLOR_LEARNING_RATE = 3e-3
_NORMAL_CONSISTENCY = 4000.0
_LAPLACIAN = 4000.0
_SIGN_CHANGE = 20.0


class SurfaceStage:
    """Optimises signed distances, deformation and colour together.

    Attributes:
        step: steps done.
        total_steps: steps in all.
        surface: the shape.
        field: the colour; its density is not used any more.
    """

    name: Stage = "surface"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.step = 0
        self.total_steps = job.settings.surface_steps
        self.guidance = Guidance(job)
        self.rasterizer = select_rasterizer(job.device, job.rasterizer)
        self.field = RadianceField(
            FieldConfig(), torch.Generator(), device=job.device, kernels=job.encoding
        )
        grid = body_centred_grid(job.settings.grid_resolution, self.field.config.bound)
        self._use(TetrahedralSurface(grid, torch.ones(len(grid.vertices))))

    def _use(self, surface: TetrahedralSurface) -> None:
        self.surface = surface.to(self.job.device)
        colors = [*self.field.encoding.parameters(), *self.field.albedo_head.parameters()]
        self.optimizer = torch.optim.Adam(
            [
                {"params": [self.surface.signed_distance], "lr": _DISTANCE_LEARNING_RATE},
                {"params": [self.surface.deformation], "lr": _DEFORMATION_LEARNING_RATE},
                {"params": colors, "lr": _COLOR_LEARNING_RATE},
            ],
            betas=(0.9, 0.99),
            eps=1e-15,
        )

    @classmethod
    def after(cls, earlier: FieldStage) -> SurfaceStage:
        """Take over the field's colours, and the level of its density that is an object.

        Raises:
            GenerationFailed: no level is.
        """
        stage = cls(earlier.job)
        stage.field.load_state_dict(earlier.field.state_dict())
        stage._use(earlier.surface(stage.surface.grid))
        stage.guidance.load_tensors(earlier.guidance.tensors())
        return stage

    def advance(self) -> dict[str, float]:
        """One step; returns numbers to show."""
        job, generator = self.job, self.job.generator
        vertices, triangles = self.surface.extract()
        if len(triangles) == 0:
            raise GenerationFailed(
                "the surface shrank to nothing while it was refined: generate again with another "
                "seed or with more steps"
            )
        cameras = sample_cameras(job.request.cameras, job.settings.batch_size, generator)
        resolution = job.prior.resolution
        backgrounds = sample_backgrounds(len(cameras), resolution, generator).to(job.device)
        lights = sample_light_directions(cameras, generator)
        ambient = sample_ambient(len(cameras), generator).to(job.device)
        buffers = render_surface(self.rasterizer, vertices, triangles, cameras, resolution)
        images = shade_surface(
            self.rasterizer, buffers, self.field.albedo, backgrounds, lights, ambient
        )
        loss = (
            self.guidance.loss(images, cameras, 1.0)
            + _NORMAL_CONSISTENCY * normal_consistency(vertices, triangles)
            + _LAPLACIAN * laplacian(vertices, triangles)
            + _SIGN_CHANGE * sign_change(self.surface.signed_distance, self.surface.grid.edges)
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.guidance.learn(images, cameras)
        self.step += 1
        return {"triangles": float(len(triangles))}

    def picture(self) -> Tensor:
        """The surface as seen now, shape (3, R, R)."""
        vertices, triangles = self.surface.extract()
        return surface_picture(
            self.rasterizer, vertices, triangles, self.colors_at, self.job.request.cameras
        )

    def mesh(self) -> Mesh | None:
        """The surface with vertex colours."""
        vertices, triangles = self.surface.extract()
        return colored_mesh(vertices, triangles, self.colors_at)

    @torch.no_grad()
    def colors_at(self, points: Tensor) -> Tensor:
        """Albedo, shape (N, 3) to (N, 3), sRGB in [0, 1]."""
        return self.field.albedo(points)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state but for the counters."""
        return pack_state(
            self.job.generator, self.optimizer, field=self.field, surface=self.surface
        ) | {f"guidance.{name}": value for name, value in self.guidance.tensors().items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        load_state(
            tensors, self.job.generator, self.optimizer, field=self.field, surface=self.surface
        )
        self.guidance.load_tensors(with_prefix(tensors, "guidance."))
