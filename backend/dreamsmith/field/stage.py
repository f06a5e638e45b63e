# SPDX-License-Identifier: Apache-2.0
"""Stage 1: score distillation of a radiance field."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.cameras import preview_camera
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.distillation.schedules import TIME_SCHEDULES
from dreamsmith.errors import GenerationFailed
from dreamsmith.events import Stage
from dreamsmith.field.background import Background
from dreamsmith.field.losses import opaqueness_loss, orientation_loss, sparsity_loss
from dreamsmith.field.occupancy import OccupancyGrid
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.field.render import Rendering, render_rays, surface_normals
from dreamsmith.job import Job, Views
from dreamsmith.stage import DistillationStage, Pictures
from dreamsmith.surface.band import BAND_LAYERS, find_band
from dreamsmith.surface.level import DEFAULT_THRESHOLD, find_level
from dreamsmith.surface.model import TetrahedralSurface, level_values, signed_distances
from dreamsmith.surface.preview import colored_mesh
from dreamsmith.surface.tetrahedra import body_centred_grid

_LEARNING_RATE = 1e-2
# threestudio's; ten times slower than the field, so that it does not outrun it.
_BACKGROUND_LEARNING_RATE = 1e-3
_OCCUPANCY_EVERY = 8
_RAY_STEP = 1 / 24
_NORMAL_EPSILON = 0.04
# Rays that see less than this get no normal: theirs would be noise.
_VISIBLE = 0.05
_PREVIEW_CELLS = 28
# Grids of so many cells along an edge are kept whole; finer ones are made near the surface alone.
_WHOLE_CELLS = 64
_PICTURE_RESOLUTION = 96
_POINTS_AT_ONCE = 1 << 17
# The reciprocal of less than this is no more air than that of this.
_THINNEST = 1e-6


class FieldStage(DistillationStage):
    """Optimises a radiance field.

    Attributes:
        field: density and albedo.
        occupancy: where the field has anything.
        background: what is behind it, where that is learned; None where it always is drawn at
            random.
    """

    name: Stage = "field"

    def __init__(self, job: Job, guidance: Guidance) -> None:
        super().__init__(job, guidance, job.settings.field_steps)
        self._settings = job.settings.field
        config = FieldConfig(
            blob_density=self._settings.blob_density, blob_radius=self._settings.blob_radius
        )
        self.field = RadianceField(config, job.generator, device=job.device)
        self.occupancy = OccupancyGrid(self.field.config.bound).to(job.device)
        self.modules = {"field": self.field, "occupancy": self.occupancy}
        groups: list[dict[str, Any]] = [{"params": self.field.parameters(), "lr": _LEARNING_RATE}]
        self.background: Background | None = None
        if self._settings.learned_background > 0:
            self.background = Background(job.generator, device=job.device)
            self.modules["background"] = self.background
            rate = _BACKGROUND_LEARNING_RATE
            groups.append({"params": self.background.parameters(), "lr": rate})
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)

    def views(self) -> Views:
        """Coarse ones, and from some time on fine ones, where the settings say so."""
        settings, progress = self.job.settings, self.progress
        size, resolution = settings.batch_size, settings.render_resolution
        if progress >= self._settings.fine_from:
            size, resolution = self._settings.fine_batch_size, self._settings.fine_resolution
        return self.job.draw_views(size, resolution, self._settings.shading, progress)

    def noise_levels(self) -> tuple[float, float]:
        """As the request's schedule says; all of them by default."""
        schedule = TIME_SCHEDULES[self.job.request.distillation.time_schedule]
        return schedule(self.progress, self._settings.annealed_after)

    def negative_share(self) -> float:
        """Rising as the request says; whole from the beginning by default."""
        after = self.job.request.distillation.negative_after
        return min(1.0, self.progress / after) if after else 1.0

    def draw(self, views: Views) -> Pictures:
        """Volume rendering, with regularisers against haze and normals that look away."""
        settings, progress = self._settings, self.progress
        self.field.use_levels(settings.levels.at(progress))
        if self.step % _OCCUPANCY_EVERY == 0:
            self.occupancy.update(self.field.density, self.job.generator)
        images, rendering, normals, away = self.render(
            views, self.job.generator, before_random=self._draws_background()
        )
        regularisation = (
            settings.sparsity.at(progress) * sparsity_loss(rendering.opacity)
            + settings.opaqueness.at(progress) * opaqueness_loss(rendering.opacity)
            + settings.orientation.at(progress) * orientation_loss(rendering.opacity, normals, away)
        )
        metrics = {"opacity": float(rendering.opacity.detach().mean())}
        return Pictures(images, regularisation, metrics)

    def _draws_background(self) -> bool:
        """Whether this step's pictures are before random backgrounds, not the learned one.

        A field that could rely on one background would leave to it what it shows itself
        (threestudio's ``random_aug``).
        """
        if self.background is None:
            return True
        drawn = torch.rand((), generator=self.job.generator)
        return float(drawn) >= self._settings.learned_background

    def render(
        self,
        views: Views,
        generator: torch.Generator | None = None,
        *,
        before_random: bool = False,
    ) -> tuple[Tensor, Rendering, Tensor, Tensor]:
        """Shaded pictures of the field.

        Args:
            views: from where.
            generator: jitters the samples; None does not.
            before_random: whether the views' backgrounds are behind it even if one is learned.

        Returns:
            pictures (B, 3, R, R); the rendering of their B * R * R rays; the normal that each ray
            sees (B * R * R, 3), 0 where it sees next to nothing; and the rays' directions.
        """
        device = self.job.device
        count, resolution = len(views.cameras), views.backgrounds.shape[-1]
        origins, directions = (
            rays.reshape(-1, 3).to(device) for rays in views.cameras.rays(resolution)
        )
        if self.background is None or before_random:
            background = views.backgrounds.permute(0, 2, 3, 1).reshape(-1, 3)
        else:
            background = self.background(directions)
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
        found = surface_normals(self.field.density, rendering.surface[seen], _NORMAL_EPSILON)
        normals = torch.zeros_like(directions).index_copy(0, seen, found)
        camera = torch.arange(len(origins), device=device) // (resolution * resolution)
        cosine = (normals * views.lights[camera]).sum(-1).clamp(min=0)
        ambient = views.ambient[camera]
        light = ambient + (1 - ambient) * cosine
        white = rendering.opacity[:, None].expand_as(rendering.foreground)
        shown = torch.where(views.textureless[camera][:, None], white, rendering.foreground)
        color = shown * light[:, None]
        color = color + (1 - rendering.opacity[:, None]) * background
        images = color.reshape(count, resolution, resolution, 3).permute(0, 3, 1, 2)
        return images, rendering, normals, directions

    @torch.no_grad()
    def picture(self) -> Tensor:
        """The field as seen now, shape (3, 96, 96)."""
        camera = preview_camera(self.job.request.cameras)
        images, *_ = self.render(
            Views(
                camera,
                torch.full((1, 3, _PICTURE_RESOLUTION, _PICTURE_RESOLUTION), 0.8).to(
                    self.job.device
                ),
                (camera.position / camera.distance[:, None]).to(self.job.device),
                torch.full((1,), 0.5, device=self.job.device),
                torch.zeros(1, dtype=torch.bool, device=self.job.device),
            )
        )
        return images[0].clamp(0, 1).cpu()

    @torch.no_grad()
    def mesh(self) -> Mesh | None:
        """The field's surface with vertex colours; None while it has none."""
        try:
            surface = self.surface(_PREVIEW_CELLS)
        except GenerationFailed:
            return None
        return colored_mesh(*surface.extract(), self.field.albedo)

    @torch.no_grad()
    def surface(self, cells: int) -> TetrahedralSurface:
        """The level of the density whose surface is an object; of a scene, its room.

        What an artist wants of a scene are its walls from within. Taken as a solid is therefore
        the air, as dense as the field is thin; so the room is closed at the bound where a wall has
        a hole, and the shell has no outer side that would have to go.

        Args:
            cells: along each axis of the tetrahedral grid. A fine grid is made near the surface
                alone, which is looked for on a coarse one.

        Raises:
            GenerationFailed: there is none.
        """
        is_scene, bound = self.job.request.is_scene, self.field.config.bound
        coarse = cells
        while coarse > _WHOLE_CELLS and coarse % 2 == 0:
            coarse //= 2
        grid = body_centred_grid(coarse, bound)
        densities = self._solid_densities(grid.vertices)
        default = 1 / DEFAULT_THRESHOLD if is_scene else DEFAULT_THRESHOLD
        threshold = find_level(densities, grid, default).threshold
        if coarse == cells:
            return TetrahedralSurface.from_densities(
                grid, densities, threshold, faces_inward=is_scene
            )
        band, values = find_band(
            lambda points: level_values(self._solid_densities(points), threshold),
            cells,
            coarse,
            bound,
            BAND_LAYERS,
        )
        return TetrahedralSurface(band, signed_distances(band, values), faces_inward=is_scene)

    def _solid_densities(self, points: Tensor) -> Tensor:
        """Of what is taken as the solid, nothing beyond the bound; shape (N,), on the CPU."""
        chunks = []
        for some in points.to(self.job.device).split(_POINTS_AT_ONCE):
            density = self.field.density(some)
            if self.job.request.is_scene:
                density = 1 / density.clamp(min=_THINNEST)
            chunks.append(density * (some.norm(dim=-1) < self.field.config.bound))
        return torch.cat(chunks).cpu()
