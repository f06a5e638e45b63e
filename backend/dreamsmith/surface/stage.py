# SPDX-License-Identifier: Apache-2.0
"""Stage 2: shape and colour of a tetrahedral surface (DMTet), refined by score distillation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from dreamsmith.asset.mesh import placed, within_sphere
from dreamsmith.asset.model import Mesh
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.distillation.schedules import LOW_NOISE, TIME_SCHEDULES
from dreamsmith.errors import GenerationFailed
from dreamsmith.events import Stage
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.field.stage import FieldStage
from dreamsmith.job import Job, Views
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.stage import DistillationStage, Pictures
from dreamsmith.state import with_prefix
from dreamsmith.surface.band import (
    BAND_LAYERS,
    band_grid,
    carried_over,
    cut_cells,
    dilated,
    with_signs,
)
from dreamsmith.surface.model import TetrahedralSurface
from dreamsmith.surface.own_shape import mesh_distances
from dreamsmith.surface.picture import surface_picture
from dreamsmith.surface.preview import colored_mesh
from dreamsmith.surface.regularise import laplacian, normal_consistency, sign_change
from dreamsmith.surface.render import (
    SurfaceBuffers,
    draw_normals,
    render_surface,
    shade_surface,
)
from dreamsmith.surface.tetrahedra import TetrahedralGrid, body_centred_grid

_DISTANCE_LEARNING_RATE = 1e-3
_DEFORMATION_LEARNING_RATE = 1e-2
_COLOR_LEARNING_RATE = 1e-2
_NORMAL_CONSISTENCY = 4000.0
_LAPLACIAN = 4000.0
_SIGN_CHANGE = 20.0
# Steps in which the surface cannot cross the cells that a band has to spare.
_FOLLOW_EVERY = 10


# Of the sphere that the user's mesh is moved into; objects that are made fill about as much.
_OWN_RADIUS = 0.8
# Along an edge of a grid that is made whole: two million vertices.
_MOST_WHOLE_CELLS = 96


class MeshStage(DistillationStage):
    """A stage that draws triangles, coloured by a field of which only the albedo is used.

    Attributes:
        field: the colour.
        placement: what moved the user's mesh to where it is; None where there is none.
        begins: whether no stage came before, so that no colour is decided yet.
    """

    def __init__(self, job: Job, guidance: Guidance, total_steps: int) -> None:
        super().__init__(job, guidance, total_steps)
        self.rasterizer = select_rasterizer(job.device)
        self.placement = None if job.start is None else within_sphere(job.start, _OWN_RADIUS)
        self.begins = False
        # Drawn where it is painted on from nothing; else an earlier stage's takes its place.
        generator = torch.Generator() if job.start is None else job.generator
        self.field = RadianceField(FieldConfig(), generator, device=job.device)
        self.modules = {"field": self.field}

    @abstractmethod
    def triangle_mesh(self) -> tuple[Tensor, Tensor]:
        """Vertices (V, 3), with gradients where they change, and triangles (F, 3)."""

    def noise_levels(self) -> tuple[float, float]:
        """Low ones, or, where nothing is decided yet, what the field stage would draw from.

        ProlificDreamer, section 5: once the coarse shape is decided.
        """
        if not self.begins:
            return LOW_NOISE
        return TIME_SCHEDULES[self.job.request.distillation.time_schedule](
            self.progress, self.job.settings.field.annealed_after
        )

    def color_parameters(self) -> list[torch.nn.Parameter]:
        """What the colour depends on."""
        return [*self.field.encoding.parameters(), *self.field.albedo_head.parameters()]

    def colors_of(self, buffers: SurfaceBuffers) -> Callable[[Tensor], Tensor]:
        """What says the colours of the points that ``buffers`` show, in their order."""
        return self.field.albedo

    def pictures(self, views: Views, vertices: Tensor, triangles: Tensor) -> Tensor:
        """What ``views`` see of the mesh, shape (B, 3, R, R)."""
        buffers = render_surface(
            self.rasterizer, vertices, triangles, views.cameras, views.backgrounds.shape[-1]
        )
        if views.normals:
            return draw_normals(self.rasterizer, buffers, views.backgrounds)
        return self.shaded(buffers, views)

    def shaded(self, buffers: SurfaceBuffers, views: Views) -> Tensor:
        """What ``buffers`` show in colour and light, shape (B, 3, R, R)."""
        return shade_surface(
            self.rasterizer,
            buffers,
            self.colors_of(buffers),
            views.backgrounds,
            views.lights,
            views.ambient,
        )

    @torch.no_grad()
    def picture(self) -> Tensor:
        """The surface as seen now, shape (3, 128, 128)."""
        return surface_picture(
            self.rasterizer, *self.triangle_mesh(), self.shaded, self.job.request.cameras
        )

    @torch.no_grad()
    def mesh(self) -> Mesh | None:
        """The surface with vertex colours."""
        return colored_mesh(*self.triangle_mesh(), self.field.albedo)


class SurfaceStage(MeshStage):
    """Optimises signed distances and deformation, and with them colour, where the prior sees it.

    Attributes:
        surface: the shape.
    """

    name: Stage = "surface"

    def __init__(self, job: Job, guidance: Guidance) -> None:
        super().__init__(job, guidance, job.settings.surface_steps)
        # In place of the one that an earlier stage or a checkpoint gives.
        nothing = body_centred_grid(2, self.field.config.bound)
        self._use(self._surface_on(nothing))

    def _surface_on(self, grid: TetrahedralGrid) -> TetrahedralSurface:
        outside = torch.ones(len(grid.vertices))
        return TetrahedralSurface(grid, outside, faces_inward=self.job.request.is_scene)

    def _use(self, surface: TetrahedralSurface) -> None:
        self.surface = surface.to(self.job.device)
        self.modules["surface"] = self.surface
        # Pictures of normals say nothing of colours: they stay as they are until the texture stage.
        colors = [] if self._shows_normals else self.color_parameters()
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
        stage = cls(earlier.job, earlier.guidance)
        stage.field.load_state_dict(earlier.field.state_dict())
        stage._use(earlier.surface(stage.job.settings.grid_resolution))
        return stage

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`, on the grid that they were on."""
        cells, bound = self.job.settings.grid_resolution, self.field.config.bound
        held = with_prefix(tensors, "surface.")
        if "cells" in held:
            self._use(self._surface_on(band_grid(cells, bound, held["cells"].cpu())))
        elif len(held["signed_distance"]) != len(self.surface.signed_distance):
            self._use(self._surface_on(body_centred_grid(cells, bound)))
        super().load_tensors(tensors)

    def _follow(self) -> None:
        """Make the band anew where the surface is now; what lies in both goes on as it was."""
        cells, bound = self.job.settings.grid_resolution, self.field.config.bound
        before = self.surface.cpu()
        grid = before.grid
        distance = before.bounded_signed_distance().detach()
        cut = cut_cells(grid, cells, distance)
        band = band_grid(cells, bound, dilated(cut, cells, BAND_LAYERS))
        place = carried_over(grid, band, cells)
        known = place >= 0
        # A new vertex is on the side of the nearest old one, and further from the surface.
        gap, nearest = cKDTree(grid.vertices.numpy()).query(band.vertices[~known].numpy())
        beyond = distance[nearest]
        values = distance[place]
        values[~known] = beyond + beyond.sign() * torch.from_numpy(gap).to(beyond)
        surface = TetrahedralSurface(
            with_signs(band, values, bound), values, faces_inward=self.job.request.is_scene
        )
        with torch.no_grad():
            surface.deformation.copy_(before.deformation[place] * known[:, None])
        moments = [self.optimizer.state[p] for p in self.optimizer.param_groups[0]["params"]]
        moments += [self.optimizer.state[p] for p in self.optimizer.param_groups[1]["params"]]
        rest = [(p, self.optimizer.state[p]) for p in self.optimizer.param_groups[2]["params"]]
        self._use(surface)
        for parameter, state in rest:
            self.optimizer.state[parameter] = state
        for parameter, state in zip(
            (self.surface.signed_distance, self.surface.deformation), moments, strict=True
        ):
            self.optimizer.state[parameter] = {
                name: value if value.ndim == 0 else _carried(value, place)
                for name, value in state.items()
            }

    @classmethod
    def refining(cls, job: Job, guidance: Guidance) -> SurfaceStage:
        """Begin with the job's mesh, which is closed, and with no colour yet.

        Raises:
            ValueError: the job has none.
            GenerationFailed: it is too thin for the grid.
        """
        stage = cls(job, guidance)
        if job.start is None or stage.placement is None:
            raise ValueError("the job has no mesh to refine")
        stage.begins = True
        own = placed(job.start, stage.placement)
        band = job.request.band * float(np.ptp(own.positions, axis=0).max())
        # A whole one: the band says how far the surface goes, not where a part of the grid ends.
        cells = min(job.settings.grid_resolution, _MOST_WHOLE_CELLS)
        grid = body_centred_grid(cells, stage.field.config.bound)
        stage._use(TetrahedralSurface(grid, mesh_distances(own, grid, 2 * band), band=band))
        if len(stage.triangle_mesh()[1]) == 0:
            raise GenerationFailed(
                "the mesh is too thin to be refined: take a higher preset, or paint it with "
                "--stages texture"
            )
        return stage

    @property
    def method(self) -> str:
        """The estimator, which may be another than the other stages'."""
        return self.job.request.surface_method

    @property
    def _shows_normals(self) -> bool:
        return self.job.request.distillation.surface_pictures == "normals"

    def views(self) -> Views:
        """From where this step looks, and whether at colours or at normals."""
        count, resolution = self.job.settings.later_views(self.job.prior.resolution)
        return self.job.draw_views(count, resolution, normals=self._shows_normals)

    def advance(self) -> dict[str, float]:
        """One step; returns numbers to show."""
        metrics = super().advance()
        self.surface.keep_within_band()
        return metrics

    def triangle_mesh(self) -> tuple[Tensor, Tensor]:
        """The surface as marching tetrahedra give it."""
        return self.surface.extract()

    def draw(self, views: Views) -> Pictures:
        """Rasterised pictures, with regularisers of the surface.

        Raises:
            GenerationFailed: nothing is left of the surface.
        """
        if self.step and self.step % _FOLLOW_EVERY == 0 and self.surface.reaches_end():
            self._follow()
        vertices, triangles = self.triangle_mesh()
        if not bool(torch.isfinite(vertices).all()):
            raise GenerationFailed(
                "the surface came to places that are not finite numbers while it was refined: "
                "generate again with another seed"
            )
        if len(triangles) == 0:
            raise GenerationFailed(
                "the surface shrank to nothing while it was refined: generate again with another "
                "seed or with more steps"
            )
        regularisation = (
            _NORMAL_CONSISTENCY * normal_consistency(vertices, triangles)
            + _LAPLACIAN * laplacian(vertices, triangles)
            + _SIGN_CHANGE * sign_change(self.surface.signed_distance, self.surface.grid.edges)
        )
        images = self.pictures(views, vertices, triangles)
        return Pictures(images, regularisation, {"triangles": float(len(triangles))})


def _carried(value: Tensor, place: Tensor) -> Tensor:
    """What is known of vertices that were there before, zero for the others."""
    known = (place >= 0).to(value.device)
    shape = (-1,) + (1,) * (value.ndim - 1)
    return value[place.to(value.device)] * known.reshape(shape)
